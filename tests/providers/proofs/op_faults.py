"""The OpenID provider where it goes wrong: what a test asks of it happens at the token endpoint, and only there."""

import threading
import time

import requests

from . import check, post, proof
from .op import CLIENTS, MACHINE, OP, basic, control, counts, echo, token
from .op_user import authorize, refresh

CLIENT = CLIENTS["basic"]


def ask():
    return token(MACHINE, headers=basic(CLIENT))


def broken(call) -> None:
    try:
        answer = call()
    except requests.ConnectionError:
        return
    raise AssertionError(f"{answer.status_code} {answer.text}")


def until(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, counts()
        time.sleep(0.02)


@proof
def an_answer_is_put_in_the_place_of_the_next():
    control(reset=True, faults=[
        {"do": "status", "status": 503, "headers": {"Retry-After": "7"}, "times": 2},
        {"do": "status", "status": 400, "body": {"error": "temporarily_unavailable"}},
    ])  # fmt: skip
    for _ in range(2):
        answer = ask()
        assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (503, "7", ""), answer.headers
    check(ask(), 400, error="temporarily_unavailable")
    check(ask(), 200)
    assert counts()["answers"] == {"503": 2, "400": 1, "200": 1}, counts()


@proof
def a_fault_can_be_for_one_client_or_grant_and_for_good():
    control(reset=True, faults=[{"do": "status", "client": CLIENTS["post"]["id"], "times": 0}])
    check(ask(), 200)
    form = {**MACHINE, "client_id": CLIENTS["post"]["id"], "client_secret": CLIENTS["post"]["secret"]}
    for _ in range(3):
        assert token(form).status_code == 503
    control(faults=[{"do": "status", "grant": "refresh_token"}])
    check(ask(), 200)


@proof
def a_connection_is_closed_before_anything_was_done():
    client = CLIENTS["code"]
    _, form = authorize(client)
    got = check(token(form, headers=basic(client)), 200)
    control(faults=[{"do": "close"}])
    again = lambda: token(refresh(got["refresh_token"]), headers=basic(client))
    broken(again)
    check(again(), 200)


@proof
def a_rotated_token_may_never_arrive():
    client = CLIENTS["code"]
    _, form = authorize(client)
    got = check(token(form, headers=basic(client)), 200)
    control(faults=[{"do": "close", "at": "after"}])
    again = lambda: token(refresh(got["refresh_token"]), headers=basic(client))
    broken(again)
    # It was used, though nobody knows.
    check(again(), 400, error="invalid_grant")
    check(echo(got["access_token"]), 401, error="invalid_token")


@proof
def a_gateway_may_fail_after_the_token_was_rotated():
    client = CLIENTS["code"]
    _, form = authorize(client)
    got = check(token(form, headers=basic(client)), 200)
    control(faults=[{"do": "status", "at": "after", "status": 502, "body": "<html>bad gateway</html>"}])
    again = lambda: token(refresh(got["refresh_token"]), headers=basic(client))
    answer = again()
    assert (answer.status_code, answer.text) == (502, "<html>bad gateway</html>"), answer.text
    check(again(), 400, error="invalid_grant")


@proof
def a_fault_that_nobody_knows_is_refused():
    for wrong in ({"do": "hang"}, {"do": "hold", "time": 2}):
        answer = post(f"{OP['control']}/control", json={"faults": [wrong]})
        assert answer.status_code == 500, answer.text


@proof
def an_answer_is_held_until_it_is_released():
    control(reset=True, faults=[{"do": "hold"}, {"do": "hold", "at": "after"}])
    answers = []
    askers = [threading.Thread(target=lambda: answers.append(ask().status_code)) for _ in range(2)]
    for asker in askers:
        asker.start()
    until(lambda: counts()["holding"] == 2)
    assert answers == []
    control(release=True)
    for asker in askers:
        asker.join()
    assert answers == [200, 200], answers
    assert counts()["holding"] == 0, counts()


@proof
def a_held_answer_is_forgotten_when_its_client_leaves():
    control(reset=True, faults=[{"do": "hold"}])
    try:
        requests.post(OP["token_url"], data=MACHINE, headers=basic(CLIENT), timeout=0.5)
        raise AssertionError("it was not held")
    except requests.Timeout:
        until(lambda: counts()["holding"] == 0)


@proof
def an_answer_can_be_slow():
    control(reset=True, faults=[{"do": "slow", "ms": 300}])
    began = time.monotonic()
    check(ask(), 200)
    assert time.monotonic() - began >= 0.3
    control(reset=True)
