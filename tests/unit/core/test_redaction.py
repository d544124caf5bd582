import pytest

from modelyard.core.redaction import is_secret, redact, secrets, without_login

SECRETS = """
password db_password DB_PASS passphrase DB_PWD db-pwd secret client_secret secrets credentials GITHUB_PAT
token tokens HF_TOKEN hf_token auth_token AUTH_TOKENS access-token accessToken refreshToken SLACK_BOT_TOKEN
api_key apikey apiKey API_KEYS api-keys AWSKEY AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID secret_key key
PRIVATE_KEY_PEM signing_key MODELYARD_HOST_KEY input_key_password secret_label_key HF_TOKEN_READ
"""
DATA = """
PWD OLDPWD pwd path pattern passes compass TOKENIZERS_PARALLELISM tokenizer token_type tokenType token_level
pad_token eos_token bos_token unk_token sep_token cls_token mask_token PAD_TOKEN image_token stop_tokens
decoder_start_token additional_special_tokens placeholder_token initializer_token key_column
label_key labels_key image_key text-key target_key sort_key metric_key monitor_key
"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_names_of_secrets(name):
    assert is_secret(name, "hunter2")


@pytest.mark.parametrize("name", DATA.split())
def test_names_of_what_training_calls_a_token_a_key_or_the_like(name):
    assert not is_secret(name, "labels_column")


@pytest.mark.parametrize(
    "value",
    ["<|endoftext|>", "</s>", "[PAD]", "512", "-0.5", "True", "none", "", 512, None, True],
)
def test_values_that_are_no_secrets_whatever_their_name(value):
    assert not is_secret("new_token", value)


@pytest.mark.parametrize("value", ["[hunter2]", '["hunter2"]', "<hunter>2", "hunter2>"])
def test_what_only_begins_or_ends_as_a_placeholder_does_may_be_a_secret(value):
    assert is_secret("new_token", value)


def test_a_url_with_a_login_is_a_secret_whatever_its_name():
    assert is_secret("pad_token", "store://me:hunter2@host/x")
    assert not is_secret("url", "ssh://git@host:22/x")


NESTED = {
    "wandb": {"api_key": "a-key", "mode": "off", "runs": [{"token": "a-token"}]},
    "credentials": {"user": "a-user", "lines": ["a", {"b": "c"}]},
    "eos_token": "end",
    "urls": ["store://me:hunter2@host/x", "http://host"],
    "max_tokens": [1, 2],
}


def test_secrets_are_found_however_deep_they_lie():
    url = ["store://me:hunter2@host/x", "me:hunter2"]
    assert sorted(secrets(NESTED)) == sorted(["a-key", "a-token", "a-user", "a", "c", *url])


def test_how_deep_is_for_a_person_to_choose():
    value = "hunter2"
    for _ in range(5000):
        value = [value]
    assert list(secrets({"token": value})) == ["hunter2"]


def test_what_is_shown_has_the_shape_of_what_was_given():
    hidden = "********"
    assert redact(NESTED) == {
        "wandb": {"api_key": hidden, "mode": "off", "runs": [{"token": hidden}]},
        "credentials": {"user": hidden, "lines": [hidden, {"b": hidden}]},
        "eos_token": "end",
        "urls": [hidden, "http://host"],
        "max_tokens": [1, 2],
    }
    assert NESTED["wandb"]["api_key"] == "a-key"


def test_of_a_url_only_the_password_is_hidden():
    said = "no 'a://me:p%40ss@host/x' and no b://:pw@host, but c://host:80/a@b and me:pw@host"
    shown = "no 'a://me:********@host/x' and no b://:********@host, but c://host:80/a@b and me:pw@host"
    assert without_login(said) == shown
