//! The entry points: each takes any bytes, and panics if what must hold of whatever they mean does not.

pub mod decisions;
pub mod folders;
pub mod globs;
pub mod names;
pub mod objects;
mod schema;

// Of the worlds that the suite `decision` makes, and of its reference, a part is needed here.
#[allow(dead_code)]
#[path = "../../decision/generate.rs"]
mod generate;
#[allow(dead_code)]
#[path = "../../decision/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "../../decision/reference.rs"]
mod reference;
