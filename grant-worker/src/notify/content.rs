//! What is told of an event: made once, so that every attempt says the same.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use shared::{clock::Timestamp, database::Transaction, message::notification::Happened};
use uuid::Uuid;

use super::store;

/// The body as a webhook gets it: type, time, and data in which ids of people, tenant and grant have
/// become what they stand for.
pub(super) async fn compose(tx: &mut Transaction, event: &Happened) -> Result<Value, sqlx::Error> {
    let mut data = match &event.data {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    // Who gets mail is no part of what happened.
    data.remove("recipients");
    let ids: BTreeSet<Uuid> = ["user", "by"].iter().filter_map(|key| id(&data, key)).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let people = store::people(tx, event.tenant, &ids).await?;
    for key in ["user", "by"] {
        let person = id(&data, key).and_then(|id| people.get(&id));
        if let Some(person) = person {
            data.insert(key.to_owned(), person.clone());
        }
    }
    if let Some(grant) = id(&data, "grant")
        && let Some(grant) = store::grant(tx, event.tenant, grant).await?
    {
        data.insert("grant".to_owned(), grant);
    }
    data.insert("tenant".to_owned(), store::tenant(tx, event.tenant).await?);
    Ok(envelope(&event.kind, event.at, &data.into()))
}

/// The form that Standard Webhooks advise.
pub(super) fn envelope(kind: &str, at: Timestamp, data: &Value) -> Value {
    json!({ "type": kind, "timestamp": at, "data": data })
}

fn id(data: &Map<String, Value>, key: &str) -> Option<Uuid> {
    data.get(key)?.as_str()?.parse().ok()
}
