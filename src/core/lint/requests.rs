//! What a request can be seen to lack without any policy.

use crate::{
    api::{findings::FindingCode, names},
    core::{content, request::Request},
};

/// Checks a request that can be understood.
pub(super) fn check(request: &Request, mut find: impl FnMut(FindingCode, &str, String)) {
    if names::RESERVED_TYPES.contains(&request.secret_type.as_str()) {
        let message =
            "a component of the cluster would turn it into a live credential; use Opaque or another data type";
        find(FindingCode::ReservedType, "spec.type", message.into());
    }
    let keys = request.mappings.iter().map(|mapping| mapping.to.clone()).collect();
    if let Err(absent) = content::check_keys(&request.secret_type, &keys) {
        find(FindingCode::KeyAbsent, "spec.secrets", absent.to_string());
    }
}
