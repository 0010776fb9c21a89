//! A real control plane on this machine, and everything that is shown on it.
