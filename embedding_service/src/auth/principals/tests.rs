use super::*;

fn name(name: &str) -> Name {
    Name::try_from(name.to_owned()).unwrap()
}

fn scopes(names: &str) -> Scopes {
    Scopes::read(names.split_whitespace()).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[test]
fn what_is_written_is_read_again_and_holds_no_key() {
    let mut principals = Principals::default();
    let day = Duration::from_secs(86_400);
    let first = principals.add_key(name("a"), Some(scopes("embed benchmark")), Some(day), now()).unwrap();
    let second = principals.add_key(name("a"), Some(scopes("embed")), None, now()).unwrap();
    let third = principals.add_key(name("b"), None, None, now()).unwrap();
    principals.revoke(&third.id, now()).unwrap();
    principals.set_password(name("c"), PasswordHash::of(&"correct horse".into()).unwrap(), None).unwrap();

    let written = principals.write().unwrap();
    for key in [&first, &second, &third] {
        let secret = key.expose().rsplit('_').next().unwrap();
        assert!(!written.contains(secret) && written.contains(key.id.as_str()), "{written}");
    }
    assert!(written.contains("2027-01-15T08:00:00Z") && !written.contains("correct"), "{written}");

    let read = Principals::read(&written).unwrap();
    assert_eq!(read.write().unwrap(), written);
    let holder = read.check(&first, now()).unwrap();
    assert_eq!((holder.name.as_str(), holder.scopes), ("a", scopes("embed benchmark")));
    assert_eq!(read.check(&second, now()).unwrap().scopes, scopes("embed"));
    assert_eq!(read.check(&first, now() + day).unwrap_err(), BadKey::Expired);
    assert_eq!(read.check(&third, now()).unwrap_err(), BadKey::Revoked);
    assert!(read.get("c").unwrap().password.is_some());
}

#[test]
fn key_with_a_known_id_and_another_secret_is_wrong_and_not_told_more() {
    let mut principals = Principals::default();
    let key = principals.add_key(name("a"), None, None, now()).unwrap();
    principals.revoke(&key.id, now()).unwrap();
    let forged = format!("vek_{}_{}", key.id, "0".repeat(64));
    assert_eq!(principals.check(&ApiKey::read(&forged).unwrap(), now()).unwrap_err(), BadKey::Wrong);
    let unknown = ApiKey::generate().unwrap();
    assert_eq!(principals.check(&unknown, now()).unwrap_err(), BadKey::Wrong);
}

#[test]
fn a_key_can_do_no_more_than_its_principal_also_later() {
    let mut principals = Principals::default();
    let key = principals.add_key(name("a"), Some(scopes("embed")), None, now()).unwrap();
    let more = principals.add_key(name("a"), Some(scopes("embed admin")), None, now()).unwrap_err();
    assert!(matches!(more, ChangeError::MoreScopes { .. }), "{more}");
    assert!(matches!(principals.add_key(name("b"), Some(scopes("")), None, now()), Err(ChangeError::NoScopes)));
    let less = principals.write().unwrap().replace("\"embed\"", "\"models:read\"");
    assert_eq!(Principals::read(&less).unwrap().check(&key, now()).unwrap().scopes, scopes("models:read"));
}

#[test]
fn a_key_keeps_the_scopes_that_were_asked_for_where_its_principal_gets_more() {
    let mut principals = Principals::default();
    let first = principals.add_key(name("a"), Some(scopes("embed")), None, now()).unwrap();
    let second = principals.add_key(name("a"), Some(scopes("embed")), None, now()).unwrap();
    let all = principals.add_key(name("a"), None, None, now()).unwrap();
    let written = principals.write().unwrap();
    let more = written.replacen("scopes = [\"embed\"]", "scopes = [\"embed\", \"admin\"]", 1);
    let read = Principals::read(&more).unwrap();
    for (key, may) in [(first, "embed"), (second, "embed"), (all, "embed admin")] {
        assert_eq!(read.check(&key, now()).unwrap().scopes, scopes(may));
    }
}

#[test]
fn who_is_removed_is_gone_and_the_others_stay_theirs() {
    let mut principals = Principals::default();
    let keys = ["a", "b", "c"].map(|of| principals.add_key(name(of), None, None, now()).unwrap());
    principals.remove(&name("b")).unwrap();
    assert!(matches!(principals.remove(&name("b")), Err(ChangeError::NoPrincipal { .. })));
    assert_eq!(principals.check(&keys[0], now()).unwrap().name, &name("a"));
    assert_eq!(principals.check(&keys[1], now()).unwrap_err(), BadKey::Wrong);
    assert_eq!(principals.check(&keys[2], now()).unwrap().name, &name("c"));
    principals.set_scopes(&name("c"), scopes("benchmark")).unwrap();
    assert_eq!(principals.check(&keys[2], now()).unwrap().scopes, scopes("benchmark"));
    assert!(matches!(principals.set_scopes(&name("c"), scopes("")), Err(ChangeError::NoScopes)));
    let century = Duration::from_secs(101 * 365 * 86_400);
    assert!(matches!(principals.add_key(name("c"), None, Some(century), now()), Err(ChangeError::TooLong)));
}

#[test]
fn mistakes_are_told_with_their_line_and_nothing_is_repeated() {
    let key = "id = \"0123456789abcdef\"\nsha256 = \"HASH\"\ncreated = \"2026-01-31T12:00:00Z\"\n";
    let key = key.replace("HASH", &"ab".repeat(32));
    let one = |rest: &str| format!("[[principal]]\nname = \"a\"\nscopes = [\"embed\"]\n{rest}");
    assert!(Principals::read(&one(&format!("[[principal.key]]\n{key}"))).is_ok());
    for (text, says) in [
        (one("[[principal.key]]\nid = \"SECRET\"\n"), "line 5: the id of a key"),
        (one("password = \"SECRET\"\n"), "line 4: expected the hash of a password"),
        (one("colour = 3\n"), "line 4: a field that there is not: expected one of `name`, `scopes`, `password`, `key`"),
        (one("key = \"vek_SECRET\"\n"), "line 4: a wrong value: expected a sequence"),
        (one("vek_SECRET = 1\n"), "line 4: a field that there is not"),
        (one("vek_SECRET\n"), "line 4: not TOML"),
        (one("password = SECRET\n"), "line 4: not TOML"),
        (one("password = \"SECRET, expected \n"), "line 4: a wrong value: expected `\"`"),
        (one("password = [\"SECRET, expected SECRET\"]\n"), "line 4: a wrong value: expected a string"),
        (one("name = \"SECRET\"\n"), "line 4: not TOML"),
        ("[[principal]]\nscopes = [\"embed\"]\n".to_owned(), "line 1: missing field `name`"),
        ("[[principal]]\nname = \"a\"\nscopes = \"SECRET\"\n".to_owned(), "line 3: a wrong value: expected a sequence"),
        ("SECRET = 1\n".to_owned(), "line 1: a field that there is not: expected `principal`"),
        ("[[principal]]\nname = \"SECRET words\"\n".to_owned(), "line 2: the name of a principal"),
        ("[[principal]]\nname = \"a\"\nscopes = [\"SECRET\"]\n".to_owned(), "line 3: expected one of the scopes"),
        (one(&one("")), "the principal a is there twice"),
        (one(&format!("[[principal.key]]\n{key}[[principal.key]]\n{key}")), "the key 0123456789abcdef is there twice"),
        (one(&format!("[[principal.key]]\n{}", key.replace("2026-01-31T", "SECRET "))), "line 7: expected a time"),
    ] {
        let error = Principals::read(&text).unwrap_err();
        assert!(error.contains(says) && !error.contains("SECRET"), "{error}");
    }
}
