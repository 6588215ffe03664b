//! The screen as a whole: keys and news in, asks and cells out.

mod keys;

use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use eyeball_im::{Vector, VectorDiff};
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};
use ratatui_image::picker::Picker;

use super::{App, Focus, Signal, dialogs::Dialog};
use crate::{
    model::{Body, Delivery, File, FileKind, Found, Message, Person, Room, Standing, Step, Trust, Verification},
    protocol::{Ask, Connection, News},
    ui::{self, Pictures, Theme},
};

fn room(id: &str, name: &str, last_ms: u64) -> Room {
    Room {
        id: id.to_owned(),
        name: name.to_owned(),
        topic: String::new(),
        standing: Standing::Joined,
        direct: None,
        encrypted: true,
        members: 2,
        unread: 0,
        mentions: 0,
        last_ms,
        inviter: None,
        replaced_by: None,
    }
}

fn message(key: &str, sender: &str, text: &str) -> Message {
    Message {
        key: key.to_owned(),
        event: Some(format!("${key}")),
        sender: format!("@{sender}:x"),
        name: sender.to_owned(),
        own: sender == "me",
        at_ms: 1_700_000_000_000,
        body: Body::Text(text.to_owned()),
        source: text.to_owned(),
        reply: None,
        reactions: Vec::new(),
        edited: false,
        in_thread: false,
        delivery: if sender == "me" { Delivery::Stored } else { Delivery::None },
        readers: 0,
        editable: sender == "me",
        encrypted: true,
        warning: None,
    }
}

/// An app that is online, with two rooms.
fn app() -> App {
    let mut app = App::new();
    app.news(News::Me { user: "@me:x".to_owned(), device: "D".to_owned() });
    app.news(News::Connection(Connection::Online));
    app.news(News::Rooms(vec![room("!a", "older", 1), room("!b", "newer", 2)]));
    app
}

/// With a conversation of two messages open in `newer`.
fn talking() -> App {
    let mut app = app();
    press(&mut app, "\n");
    messages(&mut app, vec![message("1", "bob", "hello"), message("2", "me", "hi there")]);
    app
}

fn messages(app: &mut App, values: Vec<Message>) -> Vec<Ask> {
    app.news(News::Earlier { room: "!b".to_owned(), beginning: false });
    app.news(News::Timeline {
        room: "!b".to_owned(),
        changes: vec![VectorDiff::Reset { values: Vector::from(values) }],
    })
}

fn code(app: &mut App, code: KeyCode) -> Vec<Ask> {
    app.key(KeyEvent::from(code))
}

/// Types; `\n` is Enter and `\x1b` Escape. Drafts and typing notices are left out of what it gives.
fn press(app: &mut App, keys: &str) -> Vec<Ask> {
    let mut asks = Vec::new();
    for key in keys.chars() {
        asks.extend(code(
            app,
            match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\t' => KeyCode::Tab,
                key => KeyCode::Char(key),
            },
        ));
    }
    asks.retain(|ask| !matches!(ask, Ask::Typing(_) | Ask::Draft { .. }));
    asks
}

fn draw(app: &mut App, columns: u16, rows: u16, theme: Theme) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let mut pictures = Pictures::new(Picker::halfblocks());
    terminal.draw(|frame| ui::draw(frame, app, &theme, &mut pictures)).unwrap();
    terminal.backend().buffer().clone()
}

fn shown(app: &mut App, columns: u16, rows: u16) -> String {
    let buffer = draw(app, columns, rows, Theme::new(true));
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_stand_by_when_something_was_last_said_and_enter_opens_the_chosen_one() {
    let mut app = app();
    assert_eq!(app.rooms.iter().map(|room| room.name.as_str()).collect::<Vec<_>>(), ["newer", "older"]);
    // What was chosen stays so when others move.
    app.news(News::Rooms(vec![room("!a", "older", 3), room("!b", "newer", 2)]));
    assert_eq!(app.chosen.as_deref(), Some("!b"));
    assert_eq!(press(&mut app, "k\n"), [Ask::Open { room: "!a".to_owned() }]);
    assert_eq!(app.focus, Focus::Compose);
    assert!(shown(&mut app, 80, 24).contains("older"));
}

#[test]
fn an_invitation_is_accepted_declined_or_left_for_later() {
    let mut invited = room("!i", "party", 0);
    (invited.standing, invited.inviter) = (Standing::Invited, Some("bob".to_owned()));
    for (key, ask) in [
        ("y", Some(Ask::Accept { room: "!i".to_owned() })),
        ("n", Some(Ask::Leave { room: "!i".to_owned() })),
        ("\x1b", None),
    ] {
        let mut app = app();
        app.news(News::Rooms(vec![room("!a", "older", 9), invited.clone()]));
        press(&mut app, "g\n");
        assert!(shown(&mut app, 80, 24).contains("bob invites you"));
        assert_eq!(press(&mut app, key), ask.into_iter().collect::<Vec<_>>());
        assert!(app.dialog.is_none());
    }
}

#[test]
fn what_is_written_is_sent_and_a_second_line_is_made_with_alt_enter() {
    let mut app = talking();
    press(&mut app, "one");
    app.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::ALT));
    assert_eq!(press(&mut app, "two\n"), [Ask::Send { text: "one\ntwo".to_owned(), reply: None, emote: false }]);
    assert!(press(&mut app, "  \n").is_empty(), "nothing is not sent");
    assert_eq!(press(&mut app, "//slash\n"), [Ask::Send { text: "/slash".to_owned(), reply: None, emote: false }]);
    assert_eq!(press(&mut app, "/me waves\n"), [Ask::Send { text: "waves".to_owned(), reply: None, emote: true }]);
    assert!(press(&mut app, "/nonsense\n").is_empty());
    assert!(shown(&mut app, 80, 24).contains("no command /nonsense"));
}

#[test]
fn others_are_told_once_that_somebody_writes_and_once_that_they_stopped() {
    let mut app = talking();
    assert_eq!(code(&mut app, KeyCode::Char('a')), [Ask::Typing(true)]);
    assert!(code(&mut app, KeyCode::Char('b')).is_empty());
    let sent = code(&mut app, KeyCode::Enter);
    assert!(sent.contains(&Ask::Typing(false)));
}

#[test]
fn messages_are_answered_edited_reacted_to_and_deleted_by_single_keys() {
    let mut app = talking();
    press(&mut app, "\x1bkk");
    assert_eq!(app.message().unwrap().key, "1");
    press(&mut app, "r");
    assert!(shown(&mut app, 80, 24).contains("reply to bob: hello"));
    let reply = Ask::Send { text: "yes".to_owned(), reply: Some("$1".to_owned()), emote: false };
    assert_eq!(press(&mut app, "yes\n"), [reply]);

    press(&mut app, "\x1bke");
    assert_eq!(press(&mut app, "!\n"), [Ask::Edit { key: "2".to_owned(), text: "hi there!".to_owned() }]);
    press(&mut app, "\x1bkke");
    assert!(shown(&mut app, 80, 24).contains("only own messages"));

    assert_eq!(press(&mut app, "a3"), [Ask::React { key: "1".to_owned(), reaction: "😂".to_owned() }]);
    assert!(press(&mut app, "x\x1b").is_empty(), "Escape deletes nothing");
    assert_eq!(press(&mut app, "xy"), [Ask::Delete { key: "1".to_owned() }]);
}

#[test]
fn an_edit_that_is_called_off_leaves_no_draft_behind() {
    let mut app = talking();
    press(&mut app, "\x1bke");
    assert!(press(&mut app, "\x1b").is_empty());
    assert!(app.open.as_ref().unwrap().compose.is_empty());
    assert_eq!(app.focus, Focus::Compose);
}

#[test]
fn what_is_half_written_waits_in_its_room() {
    let mut app = talking();
    press(&mut app, "half");
    let left = app.show("!a");
    assert!(left.contains(&Ask::Draft { room: "!b".to_owned(), text: "half".to_owned() }));
    assert!(app.open.as_ref().unwrap().compose.is_empty());
    app.show("!b");
    assert_eq!(app.open.as_ref().unwrap().compose.text(), "half");
    app.quit();
    assert!(app.ended);
}

#[test]
fn going_up_at_the_top_asks_for_what_was_before_once_at_a_time() {
    let mut app = talking();
    press(&mut app, "\x1b");
    assert_eq!(press(&mut app, "k"), [Ask::Earlier]);
    assert!(press(&mut app, "kkkk").is_empty(), "it is on its way");
    app.news(News::Earlier { room: "!b".to_owned(), beginning: true });
    assert!(press(&mut app, "kkkk").is_empty(), "there is nothing before");
    press(&mut app, "G");
    assert!(app.open.as_ref().unwrap().chosen.is_none());
}

#[test]
fn a_message_that_a_search_found_is_looked_for_and_given_up_at_the_beginning() {
    let mut app = talking();
    press(&mut app, "\x1b/");
    assert_eq!(press(&mut app, "needle\n"), [Ask::Search { text: "needle".to_owned() }]);
    let found = |event: &str| Found::Message {
        room: "!b".to_owned(),
        room_name: "newer".to_owned(),
        event: event.to_owned(),
        name: "bob".to_owned(),
        at_ms: 0,
        text: "the needle".to_owned(),
    };
    app.news(News::Found { text: "other".to_owned(), found: vec![found("$old")] });
    assert!(shown(&mut app, 80, 24).contains("searching"), "an answer to another question is none");
    app.news(News::Found { text: "needle".to_owned(), found: vec![found("$old")] });
    assert!(shown(&mut app, 80, 24).contains("the needle"));
    assert_eq!(press(&mut app, "\n"), [Ask::Earlier]);
    let mut earlier = vec![message("old", "bob", "the needle")];
    earlier.extend(app.open.as_ref().unwrap().messages.iter().cloned());
    messages(&mut app, earlier);
    assert_eq!(app.message().unwrap().key, "old");

    app.want("$gone");
    app.news(News::Earlier { room: "!b".to_owned(), beginning: true });
    assert!(shown(&mut app, 80, 24).contains("not in reach"));
}

#[test]
fn a_verification_can_be_left_at_every_step() {
    let told =
        |step| News::Verification(Verification { flow: "f".to_owned(), who: "@bob:x".to_owned(), own: false, step });
    let signs = vec![("🐶".to_owned(), "Dog".to_owned()); 7];
    for step in [Step::Asked, Step::Waiting("waiting"), Step::Compare(signs.clone())] {
        let mut app = talking();
        app.news(told(step));
        assert_eq!(press(&mut app, "\x1b"), [Ask::CancelVerification]);
        app.news(told(Step::Over("cancelled".to_owned())));
        assert!(shown(&mut app, 80, 24).contains("Not verified: cancelled"));
        press(&mut app, "\n");
        assert!(app.verification.is_none());
    }
    let mut app = talking();
    app.news(told(Step::Asked));
    assert_eq!(press(&mut app, "y"), [Ask::AcceptVerification]);
    app.news(told(Step::Compare(signs.clone())));
    assert!(shown(&mut app, 80, 24).contains("🐶"));
    assert_eq!(press(&mut app, "n"), [Ask::DenyVerification]);
    app.news(told(Step::Compare(signs)));
    assert_eq!(press(&mut app, "y"), [Ask::ConfirmVerification]);
    assert!(press(&mut app, "yn").is_empty(), "it is confirmed once");
    app.news(told(Step::Done));
    assert!(shown(&mut app, 80, 24).contains("Verified."));
}

#[test]
fn a_message_goes_from_sending_over_waiting_to_read_and_what_the_node_told_outlives_other_news() {
    let mut app = talking();
    let delivery = |app: &App| app.open.as_ref().unwrap().messages[1].delivery.clone();
    let told =
        |waiting| News::Delivery { room: "!b".to_owned(), event: "$2".to_owned(), waiting, away_since_ms: Some(5) };
    app.news(told(1));
    assert_eq!(delivery(&app), Delivery::Waiting(1, Some(5)));
    let again = VectorDiff::Set { index: 1, value: message("2", "me", "hi there") };
    app.news(News::Timeline { room: "!b".to_owned(), changes: vec![again] });
    assert_eq!(delivery(&app), Delivery::Waiting(1, Some(5)));
    app.news(told(0));
    assert_eq!(delivery(&app), Delivery::Delivered);
    let mut read = message("3", "bob", "got it");
    read.readers = 1;
    app.news(News::Timeline { room: "!b".to_owned(), changes: vec![VectorDiff::PushBack { value: read }] });
    assert_eq!(delivery(&app), Delivery::Read(1));
    app.news(told(1));
    assert_eq!(delivery(&app), Delivery::Read(1), "who has read it has it");
}

#[test]
fn only_what_is_seen_is_marked_as_read_and_only_what_is_not_seen_is_announced() {
    let mut app = talking();
    let mut rooms = vec![room("!a", "older", 1), room("!b", "newer", 2)];
    rooms[1].unread = 1;
    assert_eq!(app.news(News::Rooms(rooms.clone())), [Ask::Seen]);
    let notify = || News::Notify {
        room: "!b".to_owned(),
        room_name: "newer".to_owned(),
        name: "bob".to_owned(),
        text: "psst".to_owned(),
    };
    app.news(notify());
    assert!(app.signals.is_empty());
    app.looked_at(false);
    assert!(app.news(News::Rooms(rooms)).is_empty());
    app.news(notify());
    assert_eq!(app.signals, [Signal::Notify { title: "bob · newer".to_owned(), text: "psst".to_owned() }]);
    assert_eq!(app.looked_at(true), [Ask::Seen]);
}

#[test]
fn without_the_node_s_extension_nobody_is_near_and_with_it_a_person_is_written_to() {
    let mut app = app();
    assert!(press(&mut app, "p").is_empty());
    assert!(shown(&mut app, 80, 24).contains("does not tell who is near"));
    app.news(News::Extension(true));
    assert_eq!(press(&mut app, "p"), [Ask::People]);
    let person = |user: &str, near| Person {
        user: user.to_owned(),
        name: user.to_owned(),
        server: "s".to_owned(),
        near,
        connected: false,
    };
    app.news(News::People(vec![person("@bob:s", true), person("", true)]));
    assert!(shown(&mut app, 80, 24).contains("@bob:s  near"));
    assert_eq!(press(&mut app, "\n"), [Ask::Chat { user: "@bob:s".to_owned() }]);
}

#[test]
fn one_s_own_link_is_shown_as_a_code_where_it_fits_and_as_text_everywhere() {
    let mut app = app();
    assert_eq!(code(&mut app, KeyCode::F(4)), [Ask::Contact]);
    let name = "a".repeat(52);
    let link = format!("matrix:u/alice:{name}?action=chat");
    app.news(News::Contact { link: link.clone() });
    let large = shown(&mut app, 80, 30);
    assert!(large.contains('█') && large.contains("matrix:u/alice"), "{large}");
    let small = shown(&mut app, 60, 10);
    assert!(!small.contains('█') && small.contains("too small") && small.contains("matrix:u/"), "{small}");
    press(&mut app, "y");
    assert_eq!(app.signals, [Signal::Copy(link)]);
}

#[test]
fn a_secret_is_typed_unseen() {
    let mut app = app();
    press(&mut app, ":recover\nEsTs");
    let seen = shown(&mut app, 80, 24);
    assert!(seen.contains("****") && !seen.contains("EsTs"));
    assert_eq!(press(&mut app, "\n"), [Ask::Recover { key: "EsTs".to_owned() }]);
}

/// Something on the screen.
type Setting = Box<dyn Fn(&mut App)>;

#[test]
fn each_picture_and_dialog_is_drawn_in_every_size() {
    let verification = Verification {
        flow: "f".to_owned(),
        who: "@b:x".to_owned(),
        own: true,
        step: Step::Compare(vec![("🐶".to_owned(), "Dog".to_owned()); 7]),
    };
    let mut dialogs: Vec<Setting> = vec![
        Box::new(|_| {}),
        Box::new(move |app| app.verification = Some(verification.clone())),
        Box::new(|app| app.dialog = Some(Dialog::Help { scroll: 1_000 })),
        Box::new(|app| app.dialog = Some(Dialog::Contact { link: Some("x".repeat(3_000)) })),
        Box::new(|app| app.dialog = Some(Dialog::search("x"))),
        Box::new(|app| app.dialog = Some(Dialog::React { key: "1".to_owned(), chosen: 8 })),
        Box::new(|app| app.dialog = Some(Dialog::RecoveryKey { key: Some("k ".repeat(30)) })),
        Box::new(|app| app.dialog = Some(Dialog::Members { members: None, total: 0, scroll: 0 })),
        Box::new(|app| app.dialog = Some(Dialog::People { people: Some(Vec::new()), chosen: 0 })),
        Box::new(|app| app.complain("日本語".repeat(50))),
    ];
    dialogs.push(Box::new(|app| {
        let picture = super::dialogs::Picture::Here(Box::new(image::DynamicImage::new_rgb8(300, 200)));
        app.dialog = Some(Dialog::Picture { key: "1".to_owned(), name: "n".to_owned(), picture });
    }));
    for set in dialogs {
        let mut app = talking();
        messages(&mut app, vec![message("1", "bob", &"日本語 long text ".repeat(80)), message("2", "me", "hi")]);
        press(&mut app, "some text in the field\x1bk");
        set(&mut app);
        for (columns, rows) in
            [(80, 24), (40, 12), (20, 5), (21, 6), (59, 8), (60, 5), (1, 1), (200, 3), (19, 40), (300, 100)]
        {
            draw(&mut app, columns, rows, Theme::new(true));
        }
    }
}

#[test]
fn a_narrow_terminal_shows_the_rooms_or_the_conversation() {
    let mut app = talking();
    assert!(!shown(&mut app, 40, 12).contains("older"));
    assert!(shown(&mut app, 40, 12).contains("hi there"));
    press(&mut app, "\x1b\x1b");
    assert!(shown(&mut app, 40, 12).contains("older"));
    assert!(!shown(&mut app, 40, 12).contains("hi there"));
    assert!(shown(&mut app, 80, 24).contains("hi there") && shown(&mut app, 80, 24).contains("older"));
}

#[test]
fn without_colours_weight_alone_tells_things_apart() {
    let mut app = talking();
    let mut file = message("3", "bob", "");
    file.body =
        Body::File(File { kind: FileKind::Photo, name: "p.jpg".to_owned(), bytes: Some(12_345), caption: None });
    messages(&mut app, vec![message("1", "bob", "`code` https://example.org/x **b**"), file]);
    press(&mut app, "\x1bk");
    let plain = draw(&mut app, 80, 24, Theme::new(false));
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let coloured = draw(&mut app, 80, 24, Theme::new(true));
    assert!(coloured.content.iter().any(|cell| cell.fg != Color::Reset));
    let exact =
        |colour| matches!(colour, Color::Rgb(..) | Color::Black | Color::White | Color::Gray | Color::Indexed(_));
    assert!(coloured.content.iter().all(|cell| !exact(cell.fg) && !exact(cell.bg)));
    assert!(shown(&mut app, 80, 24).contains("[photo] p.jpg (12 kB)"));
}

#[test]
fn a_conversation_of_ten_thousand_among_ten_thousand_rooms_is_drawn_at_once() {
    let mut app = app();
    app.news(News::Rooms((0..10_000).map(|number| room(&format!("!{number}"), "room", number)).collect()));
    app.show("!b");
    messages(
        &mut app,
        (0..10_000).map(|number| message(&number.to_string(), "bob", "some words of a message")).collect(),
    );
    let begin = Instant::now();
    for _ in 0..10 {
        press(&mut app, "\x1bk");
        draw(&mut app, 80, 24, Theme::new(true));
        press(&mut app, "ix");
        draw(&mut app, 80, 24, Theme::new(true));
    }
    // Twenty pictures, in a build without optimisation on a busy machine.
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

#[test]
fn one_is_reminded_of_the_recovery_key_until_it_is_written_down() {
    let mut app = app();
    app.news(News::Trust(Trust { verified: true, backup: true, unsaved_key: true }));
    assert!(shown(&mut app, 80, 24).contains("recovery key"));
    app.news(News::RecoveryKey { key: Some("EsTs aaaa".to_owned()) });
    assert!(shown(&mut app, 80, 24).contains("EsTs aaaa"));
    assert_eq!(press(&mut app, "w"), [Ask::KeySaved]);
}

#[test]
fn pasted_lines_go_into_the_message_and_are_not_sent_by_themselves() {
    let mut app = talking();
    assert!(app.paste("one\r\ntwo\x1b[31m\n").is_empty());
    assert_eq!(app.open.as_ref().unwrap().compose.text(), "one\ntwo[31m\n");
    press(&mut app, "\x1b:");
    app.paste("add matrix:u/bob:x\n");
    assert_eq!(press(&mut app, "\n"), [Ask::Add { link: "matrix:u/bob:x".to_owned() }]);
}
