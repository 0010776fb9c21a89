//! The two kinds, their conditions and reasons, and every name the operator writes.
//!
//! Architecture invariant: nothing here knows the rest of the crate.

/// Words for people and machines to read, in objects, traces or metrics: an enum, and what each word means. A word is
/// that of the variant, unless another is given.
macro_rules! closed_set {
    ($(#[$meta:meta])* $set:ident { $( $(#[doc = $doc:literal])+ $name:ident $(= $word:literal)?, )+ }) => {
        $(#[$meta])*
        pub enum $set {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl $set {
            /// Every word, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => closed_set!(@word $name $($word)?)),+ }
            }

            /// What it means, for the reference.
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
    (@word $name:ident) => { stringify!($name) };
    (@word $name:ident $word:literal) => { $word };
}
pub(crate) use closed_set;

pub mod conditions;
pub mod events;
pub mod findings;
pub mod names;

#[expect(clippy::duplicated_attributes, reason = "each printcolumn of kube's derive has the same keys")]
mod distribution;
#[expect(clippy::duplicated_attributes, reason = "each printcolumn of kube's derive has the same keys")]
mod policy;
mod schema;

pub use distribution::*;
pub use policy::*;
