//! Reasons of events: an API of its own, like those of conditions. `docs/reference.md` has them as a table.

use super::conditions::Reason;

closed_set! {
    /// What happened to a Secret that a person should notice.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    EventReason {
        /// Normal: a Secret that existed already was taken over.
        Adopted,
        /// Normal: a Secret that is not part of the request any more was deleted.
        Pruned,
        /// Warning: the grant of a Secret is gone; it is deleted when the grace period ends.
        RevocationPending,
        /// Warning: a Secret was deleted because its grant is gone.
        Revoked,
    }
}

/// Whether a False condition with this reason is told by a Warning event of the same reason. Not if it is somebody's
/// own wish, or follows from another condition, or has an event among [`EventReason`].
pub fn is_told(reason: Reason) -> bool {
    !matches!(reason, Reason::NotPermitted | Reason::NotEnforced | Reason::RevocationPending | Reason::Suspended)
}
