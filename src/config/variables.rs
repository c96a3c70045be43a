//! `${NAME}` in values.

use super::{Environment, Fault, VALUE_BYTES_MAX};

/// Replaces every variable of a value. What a variable holds is not looked through again.
pub(super) fn replace(text: &str, environment: Environment<'_>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if rest.starts_with("${") {
            let (value, after) = variable(rest, environment)?;
            out.push_str(&value);
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    if out.len() > VALUE_BYTES_MAX {
        let what =
            format!("a value of {} bytes, and at most {VALUE_BYTES_MAX} are taken", out.len());
        return Err(Fault::Limit { what });
    }
    Ok(out)
}

/// The value of the variable that `text` begins with, and what follows it.
fn variable<'a>(text: &'a str, environment: Environment<'_>) -> Result<(String, &'a str), Fault> {
    let no_variable = || Fault::VariableForm { text: text.chars().take(40).collect() };
    let (inside, after) =
        text.strip_prefix("${").and_then(|text| text.split_once('}')).ok_or_else(no_variable)?;
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // A default with another variable in it would end at the wrong brace.
    if !is_name || default.is_some_and(|default| default.contains("${")) {
        return Err(no_variable());
    }
    let value = environment(name).filter(|value| default.is_none() || !value.is_empty());
    match value.or_else(|| default.map(str::to_owned)) {
        Some(value) => Ok((value, after)),
        None => Err(Fault::Variable { name: name.to_owned() }),
    }
}

/// A value that [`replace`] leaves as `text`.
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}
