//! What this program is, and what it was built of.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Says exactly which crates a build has. A crate that is not in it cannot be in the program.
const LOCK: &str = include_str!("../Cargo.lock");

/// Those that talk to the cluster, hold its objects, or keep a secret on its way.
const MAIN: &[&str] = &["hyper", "k8s-openapi", "kube", "prometheus-client", "ring", "rustls", "tokio", "zeroize"];

/// Form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// The program.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its version.
    pub version: &'static str,
    /// The commit of its sources, if the build was told: `make image` does.
    pub commit: Option<&'static str>,
    /// Version of each main dependency.
    pub dependencies: BTreeMap<&'static str, &'static str>,
}

impl Version {
    /// That of this program.
    pub fn of_this_program() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("SECRETS_DISTRIBUTOR_COMMIT").filter(|commit| !commit.is_empty()),
            dependencies: MAIN.iter().filter_map(|name| Some((*name, locked(name)?))).collect(),
        }
    }

    /// The answer in that form, with a line's end.
    pub fn told(&self, form: Form) -> String {
        match form {
            Form::Text => self.to_string(),
            Form::Json => serde_json::to_string(self).unwrap_or_default() + "\n",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", env!("CARGO_PKG_NAME"), self.version)?;
        writeln!(f, "commit {}", self.commit.unwrap_or("not told to the build"))?;
        self.dependencies.iter().try_for_each(|(name, version)| writeln!(f, "{name} {version}"))
    }
}

/// The version of a crate in the lock file.
fn locked(name: &str) -> Option<&'static str> {
    let package = LOCK.split("[[package]]").find(|package| package.contains(&format!("\nname = \"{name}\"\n")))?;
    let (_, rest) = package.split_once("\nversion = \"")?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_main_dependency_has_a_version() {
        let version = Version::of_this_program();
        assert_eq!(version.dependencies.len(), MAIN.len(), "{version:?}");
        let is_version = |text: &&str| text.split('.').count() == 3 && text.starts_with(|c: char| c.is_ascii_digit());
        assert!(version.dependencies.values().all(is_version), "{version:?}");
        assert_eq!(locked("secrets-distributor"), Some(version.version));
        assert_eq!(locked("no-such-crate"), None);
    }

    #[test]
    fn both_forms_tell_the_same() {
        let version = Version::of_this_program();
        let json: serde_json::Value = serde_json::from_str(&version.told(Form::Json)).unwrap();
        let text = version.told(Form::Text);
        assert!(text.starts_with(&format!("secrets-distributor {}\n", json["version"].as_str().unwrap())));
        for (name, version) in json["dependencies"].as_object().unwrap() {
            assert!(text.contains(&format!("\n{name} {}\n", version.as_str().unwrap())), "{text}");
        }
    }
}
