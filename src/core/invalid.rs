//! An object that cannot be understood, and where.

/// A field that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// Path of the field, such as `spec.secrets[2].from`.
    pub field: String,
    /// What is wrong with it, and what is expected. It never repeats the value, which may hold control characters.
    pub problem: String,
}

impl InvalidField {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}
