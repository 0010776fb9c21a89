//! The operator that is asked about.

use super::error::Error;
use crate::{core::name::NamespaceName, rbac::OPERATOR};

/// Where the operator is. Nobody but the platform team may look for it, so it has to be said.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Operator")]
pub struct OperatorArgs {
    /// Namespace of the operator, which no glob and no selector of a policy reaches. By default what the variable
    /// OPERATOR_NAMESPACE says, else that of the installation in the README.
    #[arg(long, env = "OPERATOR_NAMESPACE", hide_env = true, value_name = "NAME", default_value = OPERATOR)]
    operator_namespace: String,
}

impl OperatorArgs {
    /// Its namespace.
    pub fn namespace(&self) -> Result<NamespaceName, Error> {
        NamespaceName::parse(&self.operator_namespace)
            .map_err(|error| Error::argument("--operator-namespace [env OPERATOR_NAMESPACE]", error))
    }
}
