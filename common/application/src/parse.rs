//! `app.toml`: strict for operators, lenient between nodes of different versions.

use headwater_node::config::{ConfigError, Documented, Loader, SectionDoc, Shape};
use toml::Table;

use crate::ApplicationSection;

/// Reads an `app.toml`. `path` is for messages.
///
/// # Errors
/// [`ConfigError`] for what is no TOML, for unknown keys (with a suggestion) and values that are not allowed.
pub fn parse(path: &str, text: &str) -> Result<ApplicationSection, ConfigError> {
    Loader::new().text(path, text).load()
}

/// Reads what another node has made of an `app.toml`: keys that this version does not know are left out.
///
/// # Errors
/// As [`parse`], but for unknown keys.
pub fn parse_known(text: &str) -> Result<ApplicationSection, ConfigError> {
    const PATH: &str = "app.toml";
    match text.parse::<Table>() {
        Ok(mut table) => {
            keep_known(&mut table, &ApplicationSection::section());
            parse(PATH, &table.to_string())
        }
        // Fails the same way, with a good message.
        Err(_) => parse(PATH, text),
    }
}

fn keep_known(table: &mut Table, section: &SectionDoc) {
    table.retain(|key, value| {
        let Some(field) = section.fields.iter().find(|field| field.key == key) else {
            return false;
        };
        if let (Shape::Section(doc), Some(table)) = (field.shape.required(), value.as_table_mut()) {
            keep_known(table, &doc());
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use headwater_node::config::print_commented;

    use super::*;
    use crate::{Confirm, OnFailure};

    #[test]
    fn an_empty_file_is_an_open_application() {
        let application = parse("app.toml", "").unwrap();
        assert_eq!(application, ApplicationSection::default());
        assert!(application.publish && application.play);
        assert_eq!(
            (
                application.read_access.as_str(),
                application.write_access.as_str()
            ),
            ("/", "/")
        );
    }

    #[test]
    fn what_is_unknown_is_refused_to_operators_and_left_out_between_nodes() {
        let text = "publsh = false\nplay = false\n[handler]\nnew_key = 1\ntimeout_ms = 70\n";
        let refused = parse("applications/a/app.toml", "publsh = false")
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("publsh") && refused.contains("publish"),
            "{refused}"
        );
        let known = parse_known(text).unwrap();
        assert!(known.publish && !known.play);
        assert_eq!(known.handler.timeout_ms, 70);
        assert!(parse_known("play = 3").is_err());
        assert!(parse_known("play = ").is_err());
    }

    #[test]
    fn every_key_is_printed_and_read_again() {
        let text = "max_clients = 7\n[handler]\naddress = \"http://[::1]:7\"\non_failure = \"open\"\n[shared_objects]\nconfirm = \"at-once\"\n";
        let application = parse("app.toml", text).unwrap();
        assert_eq!(application.handler.on_failure, OnFailure::Open);
        assert_eq!(application.shared_objects.confirm, Confirm::AtOnce);
        let printed = print_commented(&application);
        assert_eq!(
            parse("printed", &printed).unwrap(),
            application,
            "{printed}"
        );
        assert_eq!(parse_known(&printed).unwrap(), application);
    }

    #[test]
    fn addresses_and_paths_are_checked() {
        for text in [
            "[handler]\naddress = \"127.0.0.1:7\"",
            "[handler]\naddress = \"http://\"",
            "[handler]\naddress = \"http://a b\"",
            "read_access = \"/a\\u0000\"",
        ] {
            assert!(parse("app.toml", text).is_err(), "{text}");
        }
    }
}
