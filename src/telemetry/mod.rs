//! What the operator says about itself. Secret content is kept out by type, and by a filter that no setting opens.

mod logs;
pub mod metrics;

pub use logs::{InvalidDirectives, LogFilter, LogFormat, init};
pub use metrics::Metrics;
