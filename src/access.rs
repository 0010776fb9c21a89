//! How the operator comes to know the Secrets of a namespace, and what the namespace has to delegate for that.

use crate::api::names;

/// How the operator comes to know the Secrets of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretsAccess {
    /// It watches their metadata.
    #[default]
    Watch,
    /// It may write them and not read: it looks at one by a change that changes nothing.
    WriteOnly,
}

impl SecretsAccess {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Watch, Self::WriteOnly];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::WriteOnly => "writeOnly",
        }
    }

    /// What a person has written.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.as_str() == text)
    }

    /// The ClusterRole that a namespace binds.
    pub fn cluster_role(self) -> &'static str {
        match self {
            Self::Watch => names::TENANT_CLUSTER_ROLE,
            Self::WriteOnly => names::WRITE_ONLY_TENANT_CLUSTER_ROLE,
        }
    }

    /// The RoleBinding by which it does so. Each has its own, since a binding cannot be changed to another role.
    pub fn role_binding(self) -> &'static str {
        match self {
            Self::Watch => names::DELEGATION,
            Self::WriteOnly => names::WRITE_ONLY_DELEGATION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_is_written_and_has_names_of_its_own() {
        let [watch, write_only] = SecretsAccess::ALL;
        for access in SecretsAccess::ALL {
            assert_eq!(SecretsAccess::parse(access.as_str()), Some(access));
        }
        for wrong in ["", "Watch", "writeonly", "write-only"] {
            assert_eq!(SecretsAccess::parse(wrong), None);
        }
        assert_ne!(watch.cluster_role(), write_only.cluster_role());
        assert_ne!(watch.role_binding(), write_only.role_binding());
    }
}
