//! The JSON Schema of routes.yaml, for editors.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::RawPolicy;

/// The schema, draft 2020-12. What a schema cannot say, `check` does.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings.into_generator().into_root_schema_for::<RawPolicy>().to_value();
    tidy(&mut schema);
    schema
}

/// Takes out what comes from the Rust types and is not true of the file: a key may be left out, but never be `null`, and
/// the mirror's `Raw…` names are nobody's business.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
            }
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                *reference = reference.replace("/Raw", "/");
            }
            if let Some(Value::Object(definitions)) = members.remove("$defs") {
                let named =
                    |(name, schema): (String, Value)| (name.trim_start_matches("Raw").to_owned(), schema);
                let definitions = definitions.into_iter().map(named).collect();
                members.insert("$defs".to_owned(), Value::Object(definitions));
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
