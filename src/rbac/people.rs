//! Roles of people: app teams, whoever writes policies, auditors.

use super::{Manifest, POLICIES, READ, REQUESTS, Rule, WRITE, cluster_role};
use crate::api::names::GROUP;

pub fn aggregate() -> Manifest {
    const VIEW: &[Rule] = &[Rule {
        why: "Reads requests and their status, which never hold secret content.",
        group: GROUP,
        resources: &[REQUESTS],
        names: &[],
        verbs: READ,
    }];
    const EDIT: &[Rule] = &[Rule {
        why: "Asks for Secrets; the status is the operator's and not in here.",
        group: GROUP,
        resources: &[REQUESTS],
        names: &[],
        verbs: WRITE,
    }];
    Manifest {
        file: "aggregate.yaml",
        about: "App teams' rights on their requests, added to the cluster's own roles view, edit and admin. For the \
                platform team: kubectl apply -f rbac/aggregate.yaml",
        documents: vec![
            cluster_role("Part of view, and so of edit and admin.", "secrets-distributor-view", &["view"], VIEW),
            cluster_role("Part of edit and admin.", "secrets-distributor-edit", &["edit", "admin"], EDIT),
        ],
    }
}

pub fn policy_author() -> Manifest {
    const AUTHOR: &[Rule] = &[Rule {
        why: "Reads and writes policies; their status is the operator's and not in here.",
        group: GROUP,
        resources: &[POLICIES],
        names: &[],
        verbs: &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
    }];
    const VIEWER: &[Rule] = &[
        Rule {
            why: "Reads policies and requests: who may receive what, who asks for it, and who holds it.",
            group: GROUP,
            resources: &[POLICIES, REQUESTS],
            names: &[],
            verbs: READ,
        },
        Rule {
            why: "Reads the labels of namespaces, by which policies select them.",
            group: "",
            resources: &["namespaces"],
            names: &[],
            verbs: READ,
        },
    ];
    Manifest {
        file: "policy-author.yaml",
        about: "Roles over policies, bound to nobody and part of no other role: whoever writes a policy decides over \
                every source. For the platform team: kubectl apply -f rbac/policy-author.yaml",
        documents: vec![
            cluster_role("For those who decide who receives what.", "secrets-distributor-policy-author", &[], AUTHOR),
            cluster_role(
                "For auditors: all that `kubectl distribute` needs for its answers, and no Secret.",
                "secrets-distributor-policy-viewer",
                &[],
                VIEWER,
            ),
        ],
    }
}
