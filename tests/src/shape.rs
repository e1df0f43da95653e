//! The shape of a JSON value: its keys and the kinds of its values, without the values. What a script relies on.

use serde_json::Value;

/// Facts that some machines do not tell: their kind depends on where the tests run.
const OF_THE_MACHINE: [&str; 7] = [
    "affinity",
    "frequencies_khz",
    "governor",
    "temperatures_millicelsius",
    "load_1min",
    "throttle_bits",
    "power_mode",
];

/// One line a key, inner keys indented; of a list its first element stands for all.
///
/// ```
/// let value = serde_json::json!({ "schema": 1, "layers": [{ "name": "conv" }], "student": null });
/// assert_eq!(n2n_tests::shape::shape(&value), "layers: list\n  name: text\nschema: number\nstudent: null\n");
/// ```
pub fn shape(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                let known = !OF_THE_MACHINE.contains(&key.as_str());
                let kind = if known { kind(value) } else { "as the machine tells" };
                text.extend(["  ".repeat(depth), format!("{key}: {kind}\n")]);
                if known {
                    write(value, depth + 1, text);
                }
            }
        }
        Value::Array(elements) => elements.iter().take(1).for_each(|element| write(element, depth, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Object(_) => "object",
        Value::Array(elements) => match elements.first() {
            None => "empty list",
            Some(Value::Number(_)) => "list of numbers",
            Some(Value::String(_)) => "list of texts",
            Some(Value::Array(_)) => "list of lists",
            Some(Value::Null | Value::Bool(_) | Value::Object(_)) => "list",
        },
    }
}
