//! Kubeconfigs: the same cluster as somebody else.

use std::path::Path;

use anyhow::{Context, Result};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, NamedAuthInfo};
use kube::{Client, Config};
use serde_json::json;

/// Writes a kubeconfig for a client certificate. All three are PEM.
pub(crate) fn write_for_certificate(
    path: &Path,
    server: &str,
    authority: &str,
    certificate: &str,
    key: &str,
) -> Result<()> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let user = json!({
        "client-certificate-data": STANDARD.encode(certificate),
        "client-key-data": STANDARD.encode(key),
    });
    let cluster = json!({ "server": server, "certificate-authority-data": STANDARD.encode(authority) });
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "e2e", "cluster": cluster }],
        "users": [{ "name": "e2e", "user": user }],
        "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "e2e" } }],
        "current-context": "e2e",
    });
    write(path, &kubeconfig)
}

/// Writes any serializable kubeconfig.
pub(crate) fn write(path: &Path, kubeconfig: &impl serde::Serialize) -> Result<()> {
    let text = serde_yaml_ng::to_string(kubeconfig)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The same kubeconfig, acting as another user.
pub(crate) fn impersonating(mut kubeconfig: Kubeconfig, user: &str, groups: &[&str]) -> Kubeconfig {
    for auth_info in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        auth_info.impersonate = Some(user.to_owned());
        auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.to_owned()).collect());
    }
    kubeconfig
}

/// The same cluster, with a bearer token for the only credential.
pub(crate) fn with_token(kubeconfig: Kubeconfig, token: &str) -> Kubeconfig {
    with_credential(kubeconfig, AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() })
}

/// The same, and the token is what the file holds, as it is in a pod.
pub(crate) fn with_token_file(kubeconfig: Kubeconfig, file: &Path) -> Kubeconfig {
    let token_file = Some(file.to_string_lossy().into_owned());
    with_credential(kubeconfig, AuthInfo { token_file, ..AuthInfo::default() })
}

fn with_credential(mut kubeconfig: Kubeconfig, auth_info: AuthInfo) -> Kubeconfig {
    const NAME: &str = "token";
    kubeconfig.auth_infos =
        vec![NamedAuthInfo { name: NAME.to_owned(), auth_info: Some(auth_info), ..Default::default() }];
    for context in kubeconfig.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
        context.user = Some(NAME.to_owned());
    }
    kubeconfig
}

/// A client of its own: one that is shared would die with the runtime of the test that made it.
pub(crate) async fn client(kubeconfig: Kubeconfig) -> Result<Client> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The same, and every failure is the caller's to see.
pub(crate) async fn client_without_retries(kubeconfig: Kubeconfig) -> Result<Client> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Lets a kubeconfig name another address of the same cluster.
pub(crate) fn redirect(kubeconfig: &mut Kubeconfig, server: &str) {
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.server = Some(server.to_owned());
    }
}
