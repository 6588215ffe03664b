//! Plain keys and vi's.

use super::*;

/// An app that talks, with more to move through, where these keys were pressed.
fn after(focus: Focus, keys: &[KeyCode]) -> (String, Vec<Ask>) {
    let mut app = talking();
    let said = ["one", "two", "three", "four"].map(|text| message(text, "bob", text));
    messages(&mut app, said.to_vec());
    app.focus = focus;
    let asks = keys.iter().flat_map(|key| code(&mut app, *key)).collect();
    let state = format!("{:?} {:?} {:?}", app.focus, app.chosen, app.open.as_ref().map(|open| &open.chosen));
    (format!("{state}\n{}", shown(&mut app, 80, 24)), asks)
}

#[test]
fn vi_s_keys_do_what_the_plain_ones_do() {
    use KeyCode::{Char, Down, End, Enter, Esc, F, Home, Left, Right, Up};
    let pairs: [(Focus, &[KeyCode], &[KeyCode]); 12] = [
        (Focus::Rooms, &[Down], &[Char('j')]),
        (Focus::Rooms, &[Down, Up, Enter], &[Char('j'), Char('k'), Enter]),
        (Focus::Rooms, &[End], &[Char('G')]),
        (Focus::Rooms, &[End, Home, Enter], &[Char('G'), Char('g'), Enter]),
        (Focus::Rooms, &[Down, Right], &[Char('j'), Char('l')]),
        (Focus::Timeline, &[Up, Up], &[Char('k'), Char('k')]),
        (Focus::Timeline, &[Up, Up, Down], &[Char('k'), Char('k'), Char('j')]),
        (Focus::Timeline, &[Home], &[Char('g')]),
        (Focus::Timeline, &[Home, End, Up], &[Char('g'), Char('G'), Char('k')]),
        (Focus::Timeline, &[Left], &[Char('h')]),
        (Focus::Timeline, &[Esc], &[Char('q')]),
        (Focus::Timeline, &[F(3)], &[Char('/')]),
    ];
    for (focus, plain, vi) in pairs {
        assert_eq!(after(focus, plain), after(focus, vi), "{focus:?} {plain:?} {vi:?}");
        assert_ne!(after(focus, plain), after(focus, &[]), "{focus:?} {plain:?} does something");
    }
}

#[test]
fn in_the_message_field_vi_s_keys_are_letters() {
    let mut app = talking();
    press(&mut app, "jkhlgG/q:i");
    assert_eq!(app.open.as_ref().unwrap().compose.text(), "jkhlgG/q:i");
    press(&mut app, "\x1bi");
    assert_eq!(app.focus, Focus::Compose);
}
