use std::sync::Arc;

use serde_json::json;

use super::super::test_server::{Reply, Server, key};
use super::*;

fn project(id: &str) -> Project {
    Project { id: Arc::from(id), name: None, archived_at: None, status: None }
}

#[tokio::test]
async fn one_item_is_asked_for_and_told() {
    let server = Server::start(|request| {
        let item = match request.last_segment() {
            "audit_logs" => json!({ "id": "audit_log-1", "type": "api_key.created" }),
            _ => key("k1"),
        };
        Reply::json(200, &json!({ "data": [item], "has_more": true }))
    })
    .await;
    let session = server.session();
    let id = Some("k1".to_owned());
    let told = |probe: Probe<KeyId>| probe.items.first().map(|id| id.as_str().to_owned());
    assert_eq!(told(session.probe_admin_keys().await.unwrap()), id);
    assert_eq!(told(session.probe_project_keys(&project("p/1")).await.unwrap()), id);
    let projects = session.probe_projects(3).await.unwrap().items;
    assert_eq!(projects.iter().map(|project| &*project.id).collect::<Vec<_>>(), ["k1"]);
    assert_eq!(session.probe_audit_log().await.unwrap().items, ["audit_log-1"]);
    assert_eq!(session.traffic().requests, 4, "one each, whatever `has_more` says");
}

#[tokio::test]
async fn more_than_was_asked_for_is_left_out() {
    let data = ["p1", "p2", "p3"].map(|id| json!({ "id": id }));
    let server = Server::start(move |request| {
        assert_eq!(request.query("limit").as_deref(), Some("2"));
        Reply::json(200, &json!({ "data": data, "has_more": true }))
    })
    .await;
    assert_eq!(server.session().probe_projects(2).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn an_empty_list_is_no_error_and_no_list_is_one() {
    let server = Server::playing(vec![
        Reply::json(200, &json!({ "data": [], "has_more": false })),
        Reply::json(200, &json!({ "data": 1 })),
        Reply::json(200, &json!({ "data": [{}] })),
        Reply::error(403, "Missing scopes: api.management.read."),
    ])
    .await;
    let session = server.session();
    assert_eq!(session.probe_projects(3).await.unwrap().items, []);
    assert!(matches!(session.probe_projects(3).await, Err(Error::WrongPage { .. })));
    assert!(matches!(session.probe_admin_keys().await, Err(Error::WrongItem { item: 1, .. })));
    let refused = session.probe_audit_log().await.unwrap_err();
    assert!(refused.is_missing_permission(), "{refused}");
    let nowhere = session.probe_project_keys(&project("..")).await;
    assert!(matches!(nowhere, Err(Error::InvalidRequest { .. })));
}
