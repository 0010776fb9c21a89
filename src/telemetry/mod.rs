//! What the operator says about itself: logs and traces. Secret content is kept out by type, and by a filter that no
//! setting opens.

pub mod level;
mod logs;
pub mod metrics;
pub mod traces;

pub use logs::{InvalidDirectives, LogFilter, LogFormat, LogLevel, init};
pub use metrics::Metrics;
