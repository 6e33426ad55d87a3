use super::*;

#[test]
fn an_empty_window_has_nothing_yet() {
    let window: Window = Window::new(Retention::default());
    assert!(window.is_empty() && window.next_offset().is_none() && window.live_start().is_none());
    assert!(matches!(
        window.read_from(Offset::default(), 1, 1),
        Read::NotYet
    ));
}
