use super::*;

fn refused(from: &str, to: &str) -> String {
    assert!(DEFAULT_FILE.contains(from));
    Registry::parse(&DEFAULT_FILE.replacen(from, to, 1), "models.toml", None).unwrap_err().to_string()
}

/// A registry of one local model, minilm, and what `more` says.
fn parse(more: &str) -> Result<Registry, String> {
    let minilm = "default = \"minilm\"\n[[model]]\nid = \"minilm\"\nprovider = \"local\"\nmodel_name = \"a/b\"\n\
                  revision = \"main\"\ndimension = 384\ntokens_max = 256\npooling = \"mean\"\nnormalize = true\n";
    Registry::parse(&format!("{minilm}{more}"), "models.toml", None).map_err(|error| error.to_string())
}

/// The lines of `parse` before `more`.
const LINES_BEFORE: usize = 10;

fn remote(id: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\nprovider = \"openai\"\nmodel_name = \"m\"\ndimension = 8\ntokens_max = 100\n\
         normalize = true\n{more}\n"
    )
}

fn line_of(needle: &str) -> usize {
    1 + DEFAULT_FILE.lines().position(|line| line.starts_with(needle)).unwrap()
}

#[test]
fn built_in_registry_has_its_models() {
    let registry = Registry::load(None, None).unwrap();
    let facts = |model: &ModelSpec| (model.id.clone(), model.provider_name(), model.dimension);
    let expected = [
        ("minilm", "local", 384),
        ("bge-small", "local", 384),
        ("bge-base", "local", 768),
        ("openai-small", "openai", 1536),
        ("cohere-english", "cohere", 384),
        ("huggingface-bge", "huggingface", 768),
    ];
    let expected = expected.map(|(id, provider, dimension)| (id.to_owned(), provider, dimension));
    assert_eq!(registry.models().iter().map(facts).collect::<Vec<_>>(), expected);
    assert_eq!((registry.default_id(), registry.get("minilm").unwrap().tokens_max), ("minilm", 256));
    let small = registry.get("bge-small").unwrap();
    assert_eq!(small.prompts.of(Input::Query), "Represent this sentence for searching relevant passages: ");
    assert_eq!((small.prompts.of(Input::Document), small.local().unwrap().pooling), ("", Pooling::Cls));
}

#[test]
fn precision_is_int8_where_nobody_chooses_and_sizes_allow_it() {
    let precision = |more: &str, dimension: usize| {
        let local = format!(
            "[[model]]\nid = \"l\"\nprovider = \"local\"\nmodel_name = \"a/b\"\ndimension = {dimension}\ntokens_max = 9\n\
             normalize = true\nrevision = \"main\"\npooling = \"cls\"\n{more}"
        );
        let registry = parse(&local).unwrap();
        registry.get("l").unwrap().local().unwrap().precision
    };
    assert_eq!(precision("", 768), Precision::Int8);
    assert_eq!(precision("", 96), Precision::F32);
    assert_eq!(precision("precision = \"f32\"", 768), Precision::F32);
    // Asked for, it is refused by name when the model is loaded.
    assert_eq!(precision("precision = \"int8\"", 96), Precision::Int8);
}

#[test]
fn unknown_provider_is_refused_with_its_line() {
    let error = refused(r#"provider = "local""#, r#"provider = "cloud""#);
    assert!(error.contains("unknown variant `cloud`, expected one of `local`, `openai`, `cohere`"), "{error}");
    assert!(error.contains(&format!("line {}", line_of("provider"))), "{error}");
}

#[test]
fn unknown_key_is_refused_with_its_line() {
    let error = refused("pooling = ", "poling = ");
    assert!(error.contains("unknown field `poling`"), "{error}");
    assert!(error.contains(&format!("line {}", line_of("pooling"))), "{error}");
}

#[test]
fn hash_that_is_none_is_refused() {
    let error = refused("953f9c0d", "953f9c0");
    assert!(error.contains("64 hexadecimal digits"), "{error}");
}

#[test]
fn default_must_exist() {
    let error = refused(r#"default = "minilm""#, r#"default = "bert""#);
    let line = line_of("default =");
    assert!(
        error.contains(&format!("line {line}: default is `bert`, but the models are minilm, bge-small")),
        "{error}"
    );
}

#[test]
fn id_must_fit_as_a_folder() {
    assert!(refused(r#"id = "minilm""#, r#"id = "../minilm""#).contains("id `../minilm`"));
}

#[test]
fn model_name_has_an_organization_and_a_name() {
    for name in ["minilm", "a/b/c", "/b", "a/", "../b", "a/b?c", ""] {
        let error = refused("sentence-transformers/all-MiniLM-L6-v2", name);
        assert!(error.contains("expected `organization/name`"), "{name}: {error}");
    }
}

/// What the test says is wrong is on the last line.
#[test]
fn mistakes_are_refused_with_their_line() {
    let local = "[[model]]\nid = \"l\"\nprovider = \"local\"\nmodel_name = \"a/b\"\ndimension = 8\ntokens_max = 9\n\
                 normalize = true\nrevision = \"main\"\npooling = \"cls\"\n";
    // Two that run here, of which the second one has `more`.
    let shared = |more: &str| {
        let one = |id: &str, more: &str| {
            format!(
                "[[model]]\nid = \"{id}\"\nprovider = \"local\"\nspace = \"s\"\nmodel_name = \"a/b\"\ndimension = 8\n\
                 normalize = true\nrevision = \"main\"\n{more}\n"
            )
        };
        one("a", "pooling = \"cls\"\ntokens_max = 9") + &one("b", more)
    };
    let cases = [
        (remote("minilm", "").lines().take(2).collect::<Vec<_>>().join("\n"), "missing field `provider`"),
        (remote("r", "pooling = \"cls\""), "`pooling` means nothing to model `r`, whose provider is `openai`"),
        (format!("{local}key_env = \"K\""), "`key_env` means nothing to model `l`, whose provider is `local`"),
        (remote("r", "base_url = \"ftp://x\""), "base_url: expected http:// or https://"),
        (remote("r", "base_url = \"https://me:secret@x\""), "base_url: expected no user, password"),
        (remote("r", "base_url = \"https://x?key=secret\""), "base_url: expected no user, password"),
        (remote("r", "api_key = \"sk-secret\""), "unknown field `api_key`"),
        (remote("r", "key_env = \"sk-secret\""), "key_env: expected the name of an environment variable"),
        (remote("r", "requests_max = 0"), "requests_max is 0: expected 1 to 1024"),
        (remote("r", "request_texts_max = -1"), "invalid value: integer `-1`"),
        (remote("r", "space = \"a b\""), "space `a b` of `r`: expected"),
        (remote("r", "tokenizer = \"wordpiece\""), "expected `cl100k_base`"),
        (remote("r", "fallback = [\"gpt\"]"), "fallback of `r` names `gpt`, but the models are minilm, r"),
        (remote("r", "fallback = [\"r\"]"), "fallback of `r` names `r`, which was tried before"),
        (
            remote("r", "fallback = [\"minilm\"]"),
            "fallback of `r` names `minilm`, whose embeddings are of another space",
        ),
        (remote("r", "fallback_any_space = [\"minilm\", \"minilm\"]"), "names `minilm`, which was tried before"),
        (
            remote("a", "space = \"s\"") + &remote("b", "query_prompt = \"q\"\nspace = \"s\""),
            "space `s` is that of `b` and `a`, which differ in `query_prompt`",
        ),
        (shared("pooling = \"mean\"\ntokens_max = 9"), "space `s` is that of `b` and `a`, which differ in `pooling`"),
        (shared("pooling = \"cls\"\ntokens_max = 8"), "space `s` is that of `b` and `a`, which differ in `tokens_max`"),
        (
            shared("pooling = \"cls\"\ntokens_max = 9\nprecision = \"int8\""),
            "space `s` is that of `b` and `a`, which differ in `precision`",
        ),
    ];
    for (more, expected) in cases {
        let error = parse(&more).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let lines: Vec<&str> = more.trim_end().lines().collect();
        // A missing field is told at the table's head, a space at the first of its members.
        let at = if expected.starts_with("missing") { 1 } else { lines.len() };
        let first = lines.iter().position(|line| line.starts_with("space = \"s\"")).map_or(at, |index| index + 1);
        assert!(error.contains(&format!("line {}", LINES_BEFORE + first)), "{more}\n{error}");
    }
}

#[test]
fn second_model_of_an_id_is_refused_at_its_id() {
    let error = parse(&remote("minilm", "")).unwrap_err();
    assert!(error.contains(&format!("line {}: id `minilm` is given to two models", LINES_BEFORE + 2)), "{error}");
}

#[test]
fn files_may_be_left_out_and_fallbacks_may_share_a_space() {
    let registry = parse(&(remote("a", "space = \"s\"\nfallback = [\"b\"]") + &remote("b", "space = \"s\""))).unwrap();
    assert_eq!(registry.get("a").unwrap().fallback, ["b"]);
    assert!(registry.get("minilm").unwrap().local().unwrap().files.is_none());
    // The same model elsewhere: of one space without a word.
    let twice = remote("a", "fallback = [\"b\"]") + &remote("b", "base_url = \" HTTP://127.0.0.1:8080/v1/ \"");
    let registry = parse(&twice).unwrap();
    let Runs::There(there) = &registry.get("b").unwrap().runs else { panic!("it runs elsewhere") };
    assert_eq!(there.base_url, "http://127.0.0.1:8080/v1");
}

#[test]
fn precision_for_all_is_checked_as_if_it_were_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = DEFAULT_FILE.replace("id = \"bge-base\"", "id = \"bge-base\"\nspace = \"s\"");
    let text = text.replace("id = \"huggingface-bge\"", "id = \"huggingface-bge\"\nspace = \"s\"");
    fs::write(file.path(), text).unwrap();
    Registry::load(Some(file.path()), Some(Precision::F32)).unwrap();
    let error = Registry::load(Some(file.path()), Some(Precision::Int8)).unwrap_err().to_string();
    assert!(error.contains("which differ in `precision`"), "{error}");
    let int8 = Registry::load(None, Some(Precision::Int8)).unwrap();
    assert_eq!(int8.get("minilm").unwrap().local().unwrap().precision, Precision::Int8);
}

#[test]
fn something_of_a_text_is_left_where_it_is_cut_here() {
    let cut = |tokens_max: &str, more: &str| {
        let model = remote("r", &format!("tokenizer = \"cl100k_base\"\n{more}"));
        parse(&model.replace("tokens_max = 100", tokens_max)).map(|_| ())
    };
    cut("tokens_max = 4", "").unwrap();
    let error = cut("tokens_max = 3", "").unwrap_err();
    assert!(error.contains("tokens_max is 3: expected at least 4"), "{error}");
    assert!(error.contains(&format!("line {}", LINES_BEFORE + 6)), "{error}");
    let error = cut("tokens_max = 6", "document_prompt = \"one two three\"").unwrap_err();
    assert!(error.contains("expected at least 7, for document_prompt has 3"), "{error}");
}

#[test]
fn file_without_models_and_file_that_is_no_text_are_told_by_line() {
    let error = Registry::parse("# mine\ndefault = \"minilm\"\n", "models.toml", None).unwrap_err().to_string();
    assert_eq!(error, "models.toml: line 2: default is `minilm`, but there are no models: expected a [[model]]");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), b"default = \"minilm\"\n# caf\xe9\n").unwrap();
    let error = Registry::load(Some(file.path()), None).unwrap_err().to_string();
    assert!(error.ends_with(": line 2: expected text in UTF-8"), "{error}");
}

#[test]
fn entry_of_the_documentation_is_one() {
    let documentation = include_str!("../../../../docs/embedding.md");
    let (_, rest) = documentation.split_once("```toml\n").unwrap();
    let (entry, _) = rest.split_once("```").unwrap();
    let registry = Registry::parse(&format!("{DEFAULT_FILE}\n{entry}"), "models.toml", None).unwrap();
    let model = registry.models().last().unwrap();
    assert_eq!(model.local().unwrap().pooling, Pooling::Mean);
}
