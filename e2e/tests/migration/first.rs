//! The first operator: what its chart installs, what was asked of it, and the Secrets as it writes them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use e2e::{ControlPlane, Mount, helm::Helm, repository};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};

/// Namespace and name of its release, and of all that it consists of.
pub const NAME: &str = "secrets-distributor";
const MANAGED_BY: &str = "xlscsde.nhs.uk/managedBy";
const USER: &str = "system:serviceaccount:secrets-distributor:secrets-distributor";
const GROUPS: [&str; 2] = ["system:serviceaccounts", "system:serviceaccounts:secrets-distributor"];

/// The namespaces of the app teams.
pub const TEAMS: [&str; 4] = ["test-application-1", "test-application-2", "storage", "keycloak"];

/// The provider's secrets.
pub struct Sources {
    pub mount: Mount,
    files: BTreeMap<&'static str, String>,
}

impl Sources {
    pub fn new(cluster: &ControlPlane) -> Result<Self> {
        let pair = rcgen::generate_simple_self_signed(["*.example.org".to_owned()])?;
        let files = BTreeMap::from([
            ("WildcardCertificate", pair.cert.pem()),
            ("WildcardCertificateKey", pair.signing_key.serialize_pem()),
            ("PrimaryStorageAccountName", "sdeprimary".to_owned()),
            ("PrimaryStorageAccountKey", "a2V5".to_owned()),
            ("KeycloakDbUsername", "keycloak".to_owned()),
            ("KeycloakDbPassword", "correct horse".to_owned()),
            ("Licence", "first line\r\nsecond line\r\n".to_owned()),
            ("PatToken", "token-1".to_owned()),
        ]);
        let sources = Self { mount: cluster.mount()?, files };
        sources.mount.write(&sources.files.iter().collect::<Vec<_>>())?;
        Ok(sources)
    }

    /// A new generation, with another content of one source.
    pub fn rotate(&mut self, name: &'static str, content: &str) -> Result<()> {
        self.files.insert(name, content.to_owned());
        self.mount.write(&self.files.iter().collect::<Vec<_>>())
    }
}

/// A cluster where it is in production.
pub struct First<'a> {
    cluster: &'a ControlPlane,
    files: BTreeMap<&'static str, String>,
}

impl<'a> First<'a> {
    /// Installs it, asks for everything that teams have asked for, and writes their Secrets.
    pub async fn in_production(cluster: &'a ControlPlane, helm: &Helm, sources: &Sources) -> Result<Self> {
        let values = tempfile::NamedTempFile::new_in(cluster.directory())?;
        serde_json::to_writer(&values, &values_of_production())?;
        let (chart, values) = (repository().join("e2e/tests/migration/first-operator"), values.path().to_owned());
        let install = ["install", NAME, &chart.display().to_string(), "--namespace", NAME, "--values"];
        helm.run(install.map(str::to_owned).into_iter().chain([values.display().to_string()])).await?;
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        cluster.kubectl(established).succeed().await?;
        let first = Self { cluster, files: sources.files.clone() };
        for request in requests()? {
            first.distribute(&request).await?;
        }
        Ok(first)
    }

    /// A team asks for a Secret, and gets it.
    pub async fn distribute(&self, request: &Value) -> Result<()> {
        self.cluster.apply_yaml(&request.to_string()).await?;
        let namespace = request["metadata"]["namespace"].as_str().context("no namespace")?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: request["spec"]["name"].as_str().map(str::to_owned),
                annotations: Some([(MANAGED_BY.to_owned(), NAME.to_owned())].into()),
                ..ObjectMeta::default()
            },
            type_: request["spec"]["type"].as_str().map(str::to_owned),
            data: Some(self.data(request)?),
            ..Secret::default()
        };
        self.secrets(namespace).await?.create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// Replaces a Secret as it does where the content is another one, but for storing that.
    pub async fn may_replace(&self, namespace: &str, name: &str) -> Result<()> {
        let secrets = self.secrets(namespace).await?;
        let found = secrets.get(name).await?;
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some([(MANAGED_BY.to_owned(), NAME.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let replaced = Secret { metadata, ..found };
        secrets.replace(name, &PostParams { dry_run: true, ..PostParams::default() }, &replaced).await?;
        Ok(())
    }

    fn data(&self, request: &Value) -> Result<BTreeMap<String, ByteString>> {
        let mappings = request["spec"]["secrets"].as_array().context("no secrets")?;
        let text = |mapping: &Value, field: &str| mapping[field].as_str().unwrap_or_default().to_owned();
        let content = |from: &str| match self.files.get(from) {
            // It reads text.
            Some(content) => content.replace("\r\n", "\n"),
            None => format!("what it found at {from}"),
        };
        Ok(mappings
            .iter()
            .map(|mapping| (text(mapping, "to"), ByteString(content(&text(mapping, "from")).into_bytes())))
            .collect())
    }

    /// With its own rights.
    async fn secrets(&self, namespace: &str) -> Result<Api<Secret>> {
        let client: Client = self.cluster.client_for_user(USER, &GROUPS).await?;
        Ok(Api::namespaced(client, namespace))
    }
}

fn values_of_production() -> Value {
    json!({
        "image": "registry.example.org/first/secrets-distributor:0.1.1",
        "volumes": [{ "name": "secrets-store-inline", "csi": {
            "driver": "secrets-store.csi.k8s.io", "readOnly": true,
            "volumeAttributes": { "secretProviderClass": "keyvault-sync" },
        } }],
        "volumeMounts": [{ "name": "secrets-store-inline", "mountPath": "/mnt/secrets", "readOnly": true }],
        "env": [{ "name": "SECRETS_PATH", "value": "/mnt/secrets" }],
    })
}

/// What teams have asked for: the certificate in two namespaces, what is named otherwise than its request, and what no
/// operator should have given.
fn requests() -> Result<Vec<Value>> {
    let certificate = std::fs::read_to_string(repository().join("docs/examples/wildcard-tls-distribution.yaml"))?;
    let certificate: Value = serde_yaml_ng::from_str(&certificate)?;
    let mut second = certificate.clone();
    second["metadata"]["namespace"] = json!("test-application-2");
    let storage = json!([
        { "from": "PrimaryStorageAccountName", "to": "azurestorageaccountname" },
        { "from": "PrimaryStorageAccountKey", "to": "azurestorageaccountkey" },
    ]);
    let database = json!([
        { "from": "KeycloakDbUsername", "to": "db_username" },
        { "from": "KeycloakDbPassword", "to": "db_password" },
    ]);
    let outside = json!([{ "from": "../../var/run/secrets/kubernetes.io/serviceaccount/token", "to": "token" }]);
    Ok(vec![
        certificate,
        second,
        request("storage", "storage-account", "storage-account-credentials", storage),
        request("storage", "licence", "licence", json!([{ "from": "Licence", "to": "licence.txt" }])),
        request("keycloak", "database", "keycloak-db", database),
        request("keycloak", "outside", "outside", outside),
    ])
}

/// An Opaque Secret that is asked for.
pub fn request(namespace: &str, name: &str, secret: &str, mappings: Value) -> Value {
    json!({
        "apiVersion": "xlscsde.nhs.uk/v1", "kind": "SecretsDistribution",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "name": secret, "secrets": mappings },
    })
}
