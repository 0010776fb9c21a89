//! What the chart installs is what `kubectl apply -f crds/ -f rbac/ -f deploy/admission/` does.

use std::fs;

use anyhow::{Context, Result};
use e2e::{helm::objects, repository};
use serde_json::{Value, json};

use crate::{find, helm};

const HOME: &str = "secrets-distributor";

/// The objects in the files of a folder; not in those of the folders below.
fn committed(folder: &str) -> Result<Vec<Value>> {
    let entries = fs::read_dir(repository().join(folder)).context(folder.to_owned())?;
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()? {
        if path.extension().is_some_and(|extension| extension == "yaml") {
            all.extend(objects(&fs::read_to_string(path)?)?);
        }
    }
    assert!(!all.is_empty(), "{folder}");
    Ok(all)
}

fn without(mut object: Value, at: &str, key: &str) -> Value {
    if let Some(parent) = object.pointer_mut(at).and_then(Value::as_object_mut) {
        parent.remove(key);
    }
    object
}

#[tokio::test]
async fn the_chart_and_the_files_for_kubectl_say_the_same() -> Result<()> {
    let (helm, _folder) = helm().await?;
    let rendered = helm.render(HOME, &json!({ "admission": { "requireSecretCreate": true } })).await?;
    let folders = ["crds", "rbac", "rbac/write-only", "deploy/admission", "deploy/admission/require-secret-create"];
    let committed: Vec<_> = folders.into_iter().map(committed).collect::<Result<Vec<_>>>()?.concat();
    for object in &committed {
        let which = format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        // The namespace is that of the release, and its account has labels and annotations of the values.
        if ["Namespace/secrets-distributor", "ServiceAccount/secrets-distributor"].contains(&which.as_str()) {
            continue;
        }
        let found = find(&rendered, &which).with_context(|| format!("the chart has no {which}"))?;
        assert_eq!(&without(found.clone(), "/metadata", "annotations"), object, "{which}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tenant_delegates_as_the_message_in_a_status_does() -> Result<()> {
    let (helm, _folder) = helm().await?;
    for (access, folder) in [("watch", "rbac/delegation"), ("writeOnly", "rbac/write-only/delegation")] {
        let rendered = helm.render(HOME, &json!({ "tenants": ["team-a"], "secretsAccess": access })).await?;
        let made =
            rendered.iter().find(|object| object["metadata"]["namespace"] == "team-a").context("no RoleBinding")?;
        let [committed] = &committed(folder)?[..] else { panic!("one RoleBinding") };
        assert_eq!(made["metadata"]["name"], committed["metadata"]["name"]);
        for field in ["kind", "roleRef", "subjects"] {
            assert_eq!(made[field], committed[field], "{access}: {field}");
        }
    }
    Ok(())
}

/// In another namespace everything is about that one.
#[tokio::test]
async fn nothing_is_about_a_namespace_that_is_not_that_of_the_release() -> Result<()> {
    let (helm, _folder) = helm().await?;
    for object in helm.render("elsewhere", &json!({ "rbac": { "scope": "cluster" } })).await? {
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace == "elsewhere", "{object}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], "elsewhere", "{object}");
        }
        let text = object.to_string();
        assert!(!text.contains("system:serviceaccount:secrets-distributor"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn what_must_stay_is_kept_and_nothing_else() -> Result<()> {
    let (helm, _folder) = helm().await?;
    for object in helm.render(HOME, &json!({})).await? {
        let kept = object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        let must_stay = ["CustomResourceDefinition", "Secret"].contains(&object["kind"].as_str().unwrap());
        assert_eq!(kept, must_stay, "{object}");
    }
    Ok(())
}
