//! From the first operator to this one, by the commands of docs/migration.md, run as they stand there: while somebody
//! watches that no Secret changes a byte or is gone for a moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod document;
mod first;
mod node;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use e2e::{
    ControlPlane, Mark, eventually,
    helm::Helm,
    observer::{History, Observer},
    repository,
    site::SOON,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use secrets_distributor::api::{SecretsDistribution, names};
use serde_json::json;

use self::document::Shell;
use self::first::{First, NAME, Sources, TEAMS, request};
use self::node::{HOME, USER};

/// Each Secret that is taken over, and its request.
const TAKEN_OVER: [(&str, &str, &str); 5] = [
    ("test-application-1", "wildcard-tls-secret", "wildcard-tls-distribution"),
    ("test-application-2", "wildcard-tls-secret", "wildcard-tls-distribution"),
    ("storage", "storage-account-credentials", "storage-account"),
    ("storage", "licence", "licence"),
    ("keycloak", "keycloak-db", "database"),
];

/// The one of them whose source the first operator has not copied as it is: it has lines that end in CRLF.
const CHANGED: &str = "storage/licence";

/// The Secrets that stay as they are: of what was asked for after the policies were made, and of what no policy can grant.
const LEFT_ALONE: [(&str, &str, &str); 2] = [("storage", "late", "late"), ("keycloak", "outside", "outside")];

#[tokio::test]
async fn the_commands_take_over_what_the_first_operator_wrote() -> Result<()> {
    let cluster = ControlPlane::start().await?;
    let helm = Helm::on(&cluster, NAME, &TEAMS).await?;
    let mut sources = Sources::new(&cluster)?;
    let first = First::in_production(&cluster, &helm, &sources).await?;
    let mount = sources.mount.path().to_owned();
    let migration = Migration { cluster: &cluster, helm: &helm, first };
    tokio::select! {
        done = migration.run(&mut sources) => done,
        failed = node::run(&cluster, &mount) => failed.map(|never| match never {}),
    }
}

/// What Flux applies, Helm does not overwrite unless it is told to.
#[tokio::test]
async fn a_kind_that_another_tool_has_applied_is_taken_over_by_force_only() -> Result<()> {
    let cluster = ControlPlane::start().await?;
    let helm = Helm::on(&cluster, NAME, &[]).await?;
    let kind = repository().join("e2e/tests/migration/first-operator/templates/crd.yaml");
    let apply = ["apply", "--server-side", "--field-manager=helm-controller", "-f", &kind.display().to_string()];
    cluster.kubectl(apply).succeed().await?;
    let chart = Helm::chart().display().to_string();
    let install = ["upgrade", "--install", NAME, &chart, "--namespace", HOME, "--create-namespace", "--take-ownership"];
    let refused = helm.run(install).await.unwrap_err().to_string();
    assert!(refused.contains("conflict with \"helm-controller\""), "{refused}");
    helm.run([&install[..], &["--force-conflicts"]].concat()).await?;
    let schema =
        "-o=jsonpath={.spec.versions[*].schema.openAPIV3Schema.properties.spec.properties.deletionPolicy.enum}";
    let get = ["get", "crd", "secretsdistributions.xlscsde.nhs.uk", schema];
    assert_eq!(cluster.kubectl(get).succeed().await?, r#"["Delete","Retain"]"#);
    Ok(())
}

struct Migration<'a> {
    cluster: &'a ControlPlane,
    helm: &'a Helm,
    first: First<'a>,
}

impl Migration<'_> {
    async fn run(&self, sources: &mut Sources) -> Result<()> {
        let mut observer = Observer::of_secrets(self.cluster).await?;
        let mut shell = Shell::start(self.cluster, self.helm).await?;

        let told = shell.run("look").await?;
        assert!(told.contains("wildcard-tls-distribution") && told.contains("CustomResourceDefinition"), "{told}");
        let told = shell.run("policies").await?;
        assert!(told.contains("left out: keycloak/outside: spec.secrets[0].from: "), "{told}");
        assert!(told.contains("policies for 5 requests"), "{told}");

        let mark = self.mark().await?;
        shell.run("install").await?;
        // The first operator goes on: somebody asks it for more, which the policies do not know of.
        let late = request("storage", "late", "late", json!([{ "from": "PatToken", "to": "token" }]));
        self.first.distribute(&late).await?;
        self.would_be_granted(&shell.run("see").await?);
        self.until_told_in_audit().await?;
        assert_eq!(self.writes_since(mark).await?, 0, "in Audit nothing is written");

        let told = shell.run("takeover").await?;
        let secrets = TAKEN_OVER.len() + LEFT_ALONE.len();
        assert!(told.starts_with(&format!("{secrets}\n")) && told.contains("successfully rolled out"), "{told}");
        self.until_taken_over().await?;
        assert_eq!(named_as_changed(&shell.run("check").await?), [CHANGED]);

        let mark = self.mark().await?;
        shell.run("back").await?;
        self.the_first_is_back().await?;
        shell.run("takeover").await?;
        self.until_taken_over().await?;
        assert!(named_as_changed(&shell.run("check").await?).is_empty());
        assert_eq!(self.writes_since(mark).await?, 0, "what is taken over needs no write");

        shell.run("remove").await?;
        self.only_the_second_is_left().await?;
        self.until_taken_over().await?;
        shell.finish();

        self.no_byte_has_changed(&observer.history().await?);
        sources.rotate("KeycloakDbPassword", "battery staple")?;
        eventually(SOON, "the rotated source is in the Secret", async || {
            let secret = self.secret("keycloak", "keycloak-db").await?;
            ensure!(secret.data.unwrap_or_default()["db_password"].0 == b"battery staple");
            Ok(())
        })
        .await
    }

    /// Nor was anything gone, or another object, at any revision of the store.
    fn no_byte_has_changed(&self, history: &History) {
        let versions = history.content_untouched(|secret| is_a_teams(secret) && place(secret) != CHANGED).unwrap();
        let range = |name: &str| match LEFT_ALONE
            .iter()
            .any(|(namespace, secret, _)| name == format!("{namespace}/{secret}"))
        {
            true => 1..=1,
            false => 2..=3,
        };
        assert_eq!(versions.len(), TAKEN_OVER.len() + LEFT_ALONE.len() - 1, "{versions:?}");
        assert!(versions.iter().all(|(name, seen)| range(name).contains(seen)), "marked, and no more: {versions:?}");
        let changed = history.secrets().map(|(_, secret)| secret).filter(|secret| place(secret) == CHANGED);
        assert_eq!(changed.map(|secret| secret.uid()).collect::<BTreeSet<_>>().len(), 1, "it stays the same object");
    }

    /// What would be granted is shown before anything is.
    fn would_be_granted(&self, told: &str) {
        for (namespace, secret, name) in TAKEN_OVER {
            let row = [namespace, secret, &format!("{namespace}/{name}"), "now"];
            let shown = told.lines().any(|line| line.split_whitespace().take(4).eq(row));
            assert!(shown, "{row:?} is not shown in\n{told}");
        }
        assert!(told.contains("5 newly granted"), "{told}");
    }

    async fn until_told_in_audit(&self) -> Result<()> {
        for (namespace, secret, name) in TAKEN_OVER {
            let message = format!("Secret {namespace}/{secret} would be taken over");
            self.until(namespace, name, "Synced", "NotEnforced", &message).await?;
        }
        self.until("storage", "late", "Permitted", "SourceNotPermitted", "PatToken").await?;
        self.until("keycloak", "outside", "Ready", "InvalidRequest", "spec.secrets[0].from").await
    }

    /// It runs and may replace what was its own, which is all that it ever does.
    async fn the_first_is_back(&self) -> Result<()> {
        let replicas = ["get", "deployment", NAME, "--namespace", NAME, "-o", "jsonpath={.spec.replicas}"];
        assert_eq!(self.cluster.kubectl(replicas).succeed().await?, "1");
        for (namespace, secret, _) in TAKEN_OVER {
            self.first.may_replace(namespace, secret).await?;
            assert!(self.secret(namespace, secret).await?.labels().contains_key(names::OWNER_UID));
        }
        Ok(())
    }

    /// Each Secret that is granted is its request's own, as is told; the others are as they were.
    async fn until_taken_over(&self) -> Result<()> {
        for (namespace, secret, name) in TAKEN_OVER {
            self.until(namespace, name, "Ready", "Ready", "").await?;
            let (secret, uid) = (self.secret(namespace, secret).await?, self.request(namespace, name).await?.uid());
            let owners: Vec<_> = secret.owner_references().iter().map(|owner| Some(owner.uid.clone())).collect();
            assert_eq!(owners, std::slice::from_ref(&uid), "{}", place(&secret));
            assert_eq!(secret.labels().get(names::OWNER_UID), uid.as_ref());
        }
        for (namespace, secret, _) in LEFT_ALONE {
            let secret = self.secret(namespace, secret).await?;
            assert!(secret.labels().is_empty() && secret.owner_references().is_empty(), "{}", place(&secret));
        }
        self.until("storage", "late", "Permitted", "SourceNotPermitted", "PatToken").await
    }

    async fn only_the_second_is_left(&self) -> Result<()> {
        assert_eq!(self.helm.run(["list", "--all-namespaces", "--short"]).await?.lines().collect::<Vec<_>>(), [NAME]);
        for (what, namespace, there) in [
            ("deployment/secrets-distributor", NAME, false),
            ("serviceaccount/secrets-distributor", NAME, false),
            ("clusterrole/secrets-distributor", NAME, false),
            ("clusterrolebinding/secrets-distributor", NAME, false),
            ("deployment/secrets-distributor", HOME, true),
            ("clusterrole/secrets-distributor-operator", HOME, true),
            ("crd/secretsdistributions.xlscsde.nhs.uk", HOME, true),
        ] {
            let get = ["get", what, "--namespace", namespace, "--ignore-not-found", "-o", "name"];
            let found = self.cluster.kubectl(get).succeed().await?;
            assert_eq!(!found.is_empty(), there, "{what} in {namespace}");
        }
        Ok(())
    }

    /// The condition of the request says this of its current generation.
    async fn until(&self, namespace: &str, name: &str, kind: &str, reason: &str, fragment: &str) -> Result<()> {
        let what = format!("{namespace}/{name}: {kind} {reason} {fragment:?}");
        eventually(SOON, &what, async || {
            let request = self.request(namespace, name).await?;
            let status = request.status.unwrap_or_default();
            ensure!(status.observed_generation == request.metadata.generation, "not looked at");
            let told = status.conditions.iter().find(|condition| condition.type_ == kind);
            ensure!(told.is_some_and(|told| told.reason == reason && told.message.contains(fragment)), "{told:?}");
            Ok(())
        })
        .await
    }

    async fn request(&self, namespace: &str, name: &str) -> Result<SecretsDistribution> {
        Ok(Api::namespaced(self.cluster.client().await?, namespace).get(name).await?)
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret> {
        Ok(Api::namespaced(self.cluster.client().await?, namespace).get(name).await?)
    }

    async fn mark(&self) -> Result<Mark> {
        self.cluster.audit().expect("a control plane of its own").mark().await
    }

    /// How many Secrets the operator has written, or tried to.
    async fn writes_since(&self, mark: Mark) -> Result<usize> {
        let entries = self.cluster.audit().expect("a control plane of its own").since(mark).await?.user(USER);
        assert!(!entries.is_empty(), "the operator has asked for nothing");
        Ok(entries.resource("secrets").writes().len())
    }
}

/// The Secrets that the document's own comparison names.
fn named_as_changed(told: &str) -> Vec<&str> {
    let words = told.lines().filter_map(|line| line.split_whitespace().next());
    words.filter(|word| word.contains('/')).collect()
}

fn place(secret: &Secret) -> String {
    format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any())
}

fn is_a_teams(secret: &Secret) -> bool {
    secret.namespace().is_some_and(|namespace| TEAMS.contains(&namespace.as_str()))
}
