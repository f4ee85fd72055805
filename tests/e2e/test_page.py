"""The page, in a real browser: upload, hear, seek, speak, find again, and what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from api.settings import PROJECT_ROOT
from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import samples, wav

SPOKEN = "four one five nine two"

expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium that hears the sample wherever it is given a microphone."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={SAMPLE}%noloop",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(permissions=["microphone"], accept_downloads=True)
    context.set_default_timeout(60_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, service: Service) -> Iterator[Page]:
    """The page; a script error, or a file that it can't load, fails the test."""
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if "Content Security" in m.text else None)
    page.goto(service.url)
    yield page
    assert faults == []


def send(page: Page, file: Path) -> None:
    page.set_input_files("#file", file)


def test_an_upload_shows_who_said_what_when_and_how(page: Page) -> None:
    send(page, SAMPLE)
    expect(page.locator(".timeline")).to_be_visible()
    expect(page.locator(".lane")).to_have_count(2)
    assert page.locator(".lane i").count() >= 5
    first = page.locator(".passage").first
    expect(first.locator(".who")).to_have_text("Speaker 1")
    expect(first.locator("p")).to_contain_text(SPOKEN)
    expect(first.locator(".emotion").first).to_be_visible()
    drawn = page.evaluate(
        "() => { const c = document.querySelector('.wave');"
        " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v > 0) }"
    )
    assert drawn


def test_a_click_on_a_word_plays_from_there_and_words_light_up(page: Page) -> None:
    send(page, SAMPLE)
    word = page.locator(".word").nth(7)
    word.click()
    expect(word).to_have_class(re.compile("lit"))
    assert page.evaluate("document.querySelector('audio').currentTime") > 5
    expect(page.locator(".word.lit")).not_to_have_text(word.inner_text())  # and goes on


def test_the_timeline_is_used_with_mouse_and_keyboard(page: Page) -> None:
    send(page, SAMPLE)
    tracks = page.get_by_role("slider", name="Position in the recording")
    box = tracks.bounding_box()
    assert box is not None
    tracks.click(position={"x": box["width"] / 2, "y": 20})
    middle = page.evaluate("document.querySelector('audio').currentTime")
    assert 8 < middle < 11
    tracks.press("ArrowRight")
    assert page.evaluate("document.querySelector('audio').currentTime") == pytest.approx(
        middle + 5, abs=0.2
    )
    tracks.press("Home")
    expect(tracks).to_have_attribute("aria-valuetext", "0:00")


def test_speakers_get_names_that_stay(page: Page) -> None:
    """In every browser and in every export, where they once stayed in one browser."""
    send(page, SAMPLE)
    page.get_by_label("Name of SPEAKER_00").fill("<b>Ann</b>")
    page.get_by_label("Name of SPEAKER_00").press("Enter")
    expect(page.locator(".passage .who").first).to_have_text("<b>Ann</b>")
    expect(page.locator(".lane-name").first).to_have_text("<b>Ann</b>")
    page.evaluate("localStorage.clear()")
    page.get_by_role("link", name="History").click()
    page.locator("tbody a").first.click()
    expect(page.locator(".passage .who").first).to_have_text("<b>Ann</b>")
    with page.expect_download() as download:
        page.get_by_role("button", name="txt").click()
    assert "<b>Ann</b>" in Path(download.value.path()).read_text()


def test_two_speakers_do_not_share_a_name(page: Page) -> None:
    send(page, SAMPLE)
    name = page.get_by_label("Name of SPEAKER_00")
    name.fill("SPEAKER_01")
    name.press("Enter")
    expect(page.get_by_text("Two speakers can't share a name")).to_be_visible()
    expect(name).to_have_value("Speaker 1")


def test_every_format_is_downloaded(page: Page) -> None:
    send(page, SAMPLE)
    for button in page.locator(".downloads button").all():
        with page.expect_download() as download:
            button.click()
        content = Path(download.value.path()).read_text()
        assert download.value.suggested_filename.endswith(f".{button.inner_text()}")
        assert "SPEAKER_00" in content or "four" in content


def test_what_is_spoken_appears_and_becomes_an_analysis(page: Page) -> None:
    """The microphone hears the sample; what was said is shown live, then as a whole, with sound."""
    page.get_by_role("link", name="Live").click()
    page.get_by_role("button", name="Start listening").click()
    log = page.get_by_role("log")
    expect(log.locator(".passage").first).to_contain_text("four")
    expect(page.locator(".partial")).not_to_be_empty()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".timeline")).to_be_visible()
    expect(page.locator(".transcript .passage").first).to_contain_text("four")
    assert page.evaluate("document.querySelector('audio').duration") > 2


def test_a_job_is_watched_until_its_analysis_is_there(page: Page) -> None:
    page.get_by_role("link", name="Jobs").click()
    page.get_by_label("A long recording").set_input_files(SAMPLE)
    page.get_by_role("button", name="Analyse in the background").click()
    expect(page.locator(".timeline")).to_be_visible()
    expect(page.locator(".passage").first).to_contain_text(SPOKEN)
    page.get_by_role("link", name="Jobs").click()
    expect(page.locator("tbody tr").first).to_contain_text("succeeded")
    expect(page.locator("tbody tr").first).to_contain_text("100%")


def test_history_finds_by_words_and_forgets(page: Page, service: Service) -> None:
    answer = httpx.post(
        f"{service.url}/audio/analyze", files={"file": SAMPLE.read_bytes()}, timeout=60
    )
    identity = answer.json()["id"]
    page.get_by_role("link", name="History").click()
    page.get_by_label("Words").fill("seven zero six")
    row = page.locator("tbody tr", has=page.locator(f"a[href='#/analyses/{identity}']"))
    expect(row).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button").click()
    expect(row).to_have_count(0)
    assert httpx.get(f"{service.url}/audio/analyses/{identity}").status_code == 404
    page.get_by_label("Words").fill("no such words")
    expect(page.get_by_text("Nothing was found.")).to_be_visible()


def test_a_list_that_comes_meanwhile_does_not_bring_back_what_is_deleted(
    page: Page, service: Service
) -> None:
    answer = httpx.post(
        f"{service.url}/audio/analyze", files={"file": SAMPLE.read_bytes()}, timeout=60
    )
    identity = answer.json()["id"]
    page.get_by_role("link", name="History").click()
    row = page.locator("tbody tr", has=page.locator(f"a[href='#/analyses/{identity}']"))
    held: list[Route] = []
    page.route(f"**/audio/analyses/{identity}", lambda route: held.append(route))
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button").click()
    with page.expect_response(lambda response: "text=seven" in response.url):
        page.get_by_label("Words").fill("seven")
    expect(row).to_be_visible()
    held[0].continue_()
    expect(row).to_have_count(0)


def test_models_tell_their_versions(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    model = page.get_by_role("region", name="speaker_embedding")
    expect(model.locator("tbody tr")).to_have_count(1)
    expect(model.locator("tbody tr")).to_contain_text("bundled")
    expect(model.locator("tbody tr")).to_contain_text("100%")


def test_a_version_is_tried_promoted_and_taken_back(
    context: BrowserContext, tmp_path: Path
) -> None:
    """As an operator does it, on a copy of the release that serves."""
    with run_service(tmp_path) as own:
        add_version(tmp_path / "model_repository" / "emotion")
        page = context.new_page()
        page.goto(f"{own.url}/#/models")
        model = page.get_by_role("region", name="emotion")
        model.get_by_label("How to roll out version 2 of emotion").select_option("canary")
        model.get_by_role("button", name="Roll out").click()
        expect(model.locator(".trial")).to_contain_text("canary of version 2: running")
        model.get_by_role("button", name="Pause").click()
        expect(model.locator(".trial")).to_contain_text("paused")
        model.get_by_role("button", name="Promote").click()
        expect(model.locator("h3")).to_contain_text("version 2")
        model.get_by_role("button", name="Roll back").click()
        expect(model.locator("h3")).to_contain_text("version 1")


def add_version(model: Path) -> None:
    staging = model / ".staging-2"
    shutil.copytree(model / "1", staging)
    manifest = json.loads((staging / "manifest.json").read_text())
    (staging / "manifest.json").write_text(json.dumps(manifest | {"version": "2"}))
    staging.rename(model / "2")


def test_a_voice_is_enrolled_and_forgotten(page: Page, tmp_path: Path) -> None:
    page.get_by_role("link", name="Voices").click()
    page.get_by_label("Name", exact=True).fill("Emil <i>")
    spoken = samples(PROJECT_ROOT / "tests" / "data" / "digits_george.wav")
    recording = tmp_path / "voice.wav"
    recording.write_bytes(wav(np.tile(spoken, 3)))
    page.get_by_label("Recordings of the voice").set_input_files(recording)
    page.get_by_role("button", name="Enrol").click()
    expect(page.get_by_label("Name of Emil <i>")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget Emil <i>").click()
    expect(page.get_by_text("No voice is known yet.")).to_be_visible()


def test_no_audio_is_said_in_words(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp3"
    text.write_text("this is no recording at all")
    send(page, text)
    expect(page.get_by_role("alert")).to_contain_text("Invalid audio format")
    expect(page.get_by_role("alert")).to_contain_text("request ")
    send(page, SAMPLE)  # and the page goes on
    expect(page.locator(".timeline")).to_be_visible()


def test_a_server_that_is_away_is_said_in_words(page: Page, context: BrowserContext) -> None:
    context.set_offline(True)
    send(page, SAMPLE)
    expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    context.set_offline(False)
    send(page, SAMPLE)
    expect(page.locator(".timeline")).to_be_visible()


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_sticks_out_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    send(page, SAMPLE)
    expect(page.locator(".timeline")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_can_be_reached_by_keyboard(page: Page) -> None:
    """Tab goes through links, the drop zone, the timeline and the passages, each with a name."""
    send(page, SAMPLE)
    expect(page.locator(".timeline")).to_be_visible()
    page.locator("body").click(position={"x": 2, "y": 2})
    names = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        names.add(
            page.evaluate(
                "(() => { const e = document.activeElement;"
                " return e.getAttribute('aria-label') || e.innerText || e.tagName })()"
            )
        )
    assert "Live" in names
    assert "Position in the recording" in names
    assert any(name.startswith("Play from") for name in names)
    assert "Name of SPEAKER_00" in names
