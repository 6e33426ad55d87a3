//! Where applications are in the store.

use headwater_media::name::DEFAULT_VHOST;

/// Name of the file that makes a folder an application.
pub const APP_FILE: &str = "app.toml";

/// The path of an application's file in the store. `None` for names that cannot be folders.
#[must_use]
pub fn app_file(vhost: &str, app: &str) -> Option<String> {
    if !is_segment(vhost) || !is_segment(app) {
        return None;
    }
    Some(if vhost == DEFAULT_VHOST {
        format!("applications/{app}/{APP_FILE}")
    } else {
        format!("vhosts/{vhost}/applications/{app}/{APP_FILE}")
    })
}

/// The virtual host and the application that a file in the store makes.
#[must_use]
pub fn application_of(path: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = path.split('/').collect();
    let (vhost, app) = match parts.as_slice() {
        ["applications", app, APP_FILE] => (DEFAULT_VHOST, *app),
        ["vhosts", vhost, "applications", app, APP_FILE] => (*vhost, *app),
        _ => return None,
    };
    (is_segment(vhost) && is_segment(app)).then(|| (vhost.to_owned(), app.to_owned()))
}

fn is_segment(name: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\');
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 255
        && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_application() {
        for (vhost, app, path) in [
            (DEFAULT_VHOST, "chat", Some("applications/chat/app.toml")),
            (
                "a.example",
                "chat",
                Some("vhosts/a.example/applications/chat/app.toml"),
            ),
            (DEFAULT_VHOST, "..", None),
            ("a/b", "chat", None),
            (DEFAULT_VHOST, "", None),
            (DEFAULT_VHOST, "a\u{0}", None),
        ] {
            let found = app_file(vhost, app);
            assert_eq!(found.as_deref(), path, "{vhost} {app}");
            if let Some(path) = path {
                assert_eq!(
                    application_of(path),
                    Some((vhost.to_owned(), app.to_owned()))
                );
            }
        }
        for path in [
            "applications/app.toml",
            "applications/a/b/app.toml",
            "applications/../app.toml",
            "app.toml",
            "",
        ] {
            assert_eq!(application_of(path), None, "{path}");
        }
    }
}
