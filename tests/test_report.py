"""The report, as a reader uses it: in headless Chromium; and the plots and tables for a README."""

import math
import re
import shutil

import pytest
from conftest import ROOT

from ncodec.evaluation import (
    Cache,
    Image,
    Study,
    bd_rate,
    bd_rate_of_images,
    find_anchor,
    read_curves,
    spread_at,
    value_at,
    write_report,
)
from ncodec.evaluation.report import (
    bd_markdown,
    gaps_of,
    look_rows,
    metric_rows,
    rate_rows,
    speed_table,
    summary_markdown,
    summary_rows,
    to_html,
    to_markdown,
    to_plot,
    views_of,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def study(sample, tmp_path_factory) -> Study:
    """Two images, three codecs, one of which cannot run."""
    images = [Image("a.png", sample[100:276, 300:476]), Image("b<&.png", sample[200:379, 100:263])]
    kept = Cache(tmp_path_factory.mktemp("cells"))
    study = Study(["jpeg", "webp", "vvenc:encoder=no-such"], images, [5, 20, 50, 80], kept)
    for _ in study.run():
        pass
    return study


@pytest.fixture(scope="module")
def curves(study):
    return study.curves()


@pytest.fixture(scope="module")
def anchors(curves):
    return [find_anchor(name, curves) for name in ("vtm", "jpeg")]


# ---------------------------------------------------------------- tables and plots


def test_summary_is_sorted_by_the_first_anchor(curves, anchors):
    rows = summary_rows(curves, anchors)
    assert [row["codec"] for row in rows] == ["webp", "jpeg", "vvenc:encoder=no-such"]
    webp, jpeg, vvenc = rows
    assert webp["bd_rates"][0] < jpeg["bd_rates"][0] and webp["bd_rates"][1] < 0
    assert math.isnan(jpeg["bd_rates"][1]) and math.isnan(vvenc["bd_rates"][0])
    assert webp["psnrs"][1] == value_at(curves[1], "psnr", 0.5)
    text = summary_markdown(curves, anchors).splitlines()
    assert text[0].startswith(
        "| codec | BD-rate vs vtm (published) (%) | BD-rate vs jpeg (%) | PSNR"
    )
    assert text[4].startswith("| vvenc:encoder=no-such (gaps) | - | - | - |")


def test_rates(curves, anchors):
    """Every metric where the curve has the rate, MS-SSIM as such; BD-rates, marked where little is in both."""
    jpeg = curves[0]
    rate = float(jpeg.points["bpp"][1])
    head, row, webp, missing = rate_rows(curves, anchors, (rate, 0.001))
    assert head[1:3] == ["its rates (bpp)", f"{rate:g} bpp"] and head[4].startswith(
        "BD-rates vs vtm"
    )
    point = jpeg.points.loc[1]
    assert row[2] == f"{point['psnr']:.2f}, {point['ms_ssim']:.3f}, {point['ssimulacra2']:.1f}"
    assert row[3] == "-" and row[5] == "-"  # beyond it; itself
    for cell, metric in zip(webp[5].split(", "), ("psnr", "ms_ssim", "ssimulacra2"), strict=True):
        found = bd_rate(curves[1], jpeg, metric)
        assert cell == f"{found.percent:+.1f}" + "*" * bool(found.warning)
    assert missing[0].endswith("(gaps)") and set(missing[1:]) == {"-"}
    assert "its rates (bpp)" in to_markdown(curves, anchors, [rate])
    assert "its rates (bpp)" not in to_markdown(curves, anchors)


def test_markdown(curves, anchors):
    text = to_markdown(curves, anchors)
    assert "## Gaps" in text and "name it with vvenc:" in text and "## webp" in text
    table = bd_markdown(curves, anchors).splitlines()
    assert len(table) == 2 + 3 * 2 + 2 * 3  # VTM was published without SSIMULACRA2
    assert re.search(
        r"\| webp \| jpeg \| PSNR \(dB\) \| -\d+\.\d \| -\d+\.\d ± \d+\.\d \(2\) \| \d+\.\d to \d+\.\d \| \d, \d \| \d+\.\d%, \d+\.\d% \|",
        text,
    )


def test_tables_by_metric(curves, anchors):
    """Images' mean and spread, the mean curves' in brackets; of a published anchor the brackets alone; then looks."""
    head, jpeg, webp, missing = metric_rows(curves, anchors[1])
    assert head == ["codec", "PSNR", "MS-SSIM", "SSIMULACRA2"] and set(jpeg[1:]) == {"-"}
    found = bd_rate_of_images(curves[1], curves[0], "ssimulacra2")
    whole = bd_rate(curves[1], curves[0], "ssimulacra2").percent
    assert webp[3] == f"{found.percent:+.1f} ± {found.spread:.1f} ({whole:+.1f})"
    assert missing == ["vvenc:encoder=no-such (gaps)", "-", "-", "-"]
    assert metric_rows(curves, anchors[0])[2][1].startswith("(+")
    head, jpeg, webp = look_rows(curves)
    assert (
        len(head) == 6
        and jpeg[-1].startswith("5: ")
        and jpeg[2] == f"{spread_at(curves[0], 60):.2f}"
    )


def test_gaps_of_all_codecs_are_one_line(study):
    curves = study.curves()
    for curve in curves:
        curve.failures.append({"image": "c.png", "asked": "", "message": "not an image"})
    assert "all 3 codecs: c.png: not an image" in gaps_of(curves) and len(gaps_of(curves)) == 2


def test_speed_is_of_the_cells(curves):
    row = speed_table(curves).to_dict("records")[0]
    assert row["codec"] == "jpeg" and row["encode_s"] == curves[0].cells["encode_s"].median()
    assert row["decode_mpixel_s"] > 1


@pytest.mark.parametrize("form", [".svg", ".png"])
def test_plots_are_repeatable(form, curves, anchors):
    assert to_plot(curves, form) == to_plot(curves, form)


def test_a_study_of_nothing(tmp_path, study):
    """Only a codec that could not run: every report is written and says so."""
    curves = study.curves()[2:]
    for suffix in (".html", ".md", ".svg", ".csv", ".json"):
        write_report(tmp_path / f"r{suffix}", curves, [find_anchor("vtm")])
    assert "no-such" in (tmp_path / "r.html").read_text()


def test_committed_results_make_a_report(tmp_path):
    curves = read_curves(ROOT / "kodak_eval" / "results" / "kodak.json")
    write_report(tmp_path / "r.html", curves, [find_anchor("vtm")])
    assert "http" not in re.sub(
        r"<script>.*?</script>", "", (tmp_path / "r.html").read_text(), flags=re.S
    )


# ---------------------------------------------------------------- in the browser


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser, study, curves, anchors, tmp_path_factory):
    """The report, loaded; afterwards nothing may have gone wrong nor been fetched."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(to_html(curves, anchors, views_of(study, 2, (0.7, 1.5), "webp")))
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(120_000)  # on a busy machine
    wrong, requests = [], []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#plot .main-svg")
    yield page
    assert wrong == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    page.close()


def test_the_page_says_what_is_missing(page):
    assert "vvenc:encoder=no-such" in page.inner_text(".gap")
    assert "b<&.png" in page.inner_text("#view-image")  # names are text, not markup
    notes = page.locator("#bd ~ table.bd").first.locator("td.note").all_inner_texts()
    assert any("not the anchor's images" in note for note in notes)


def test_hovering_shows_the_point(page, curves):
    page.locator("#plot").scroll_into_view_if_needed()
    point = page.locator("#plot .scatterlayer .trace").first.locator(".points path").nth(1)
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#plot .hovertext")
    shown = page.locator("#plot .hovertext").first.text_content()
    expected = curves[0].points.iloc[1]
    assert (
        f"{expected['bpp']:.4f} bpp" in shown
        and f"quality {expected['asked']}" in shown
        and "jpeg" in shown
    )


def test_metric_and_axis_change(page):
    def axes():
        return page.evaluate(
            "[$('plot').layout.xaxis.type, $('plot').layout.yaxis.title.text, $('plot').data.length]"
        )

    assert axes() == ["log", "PSNR (dB)", 3]  # two codecs that ran, and VTM
    page.uncheck("#log")
    page.select_option("#metric", "ssimulacra2")
    assert axes() == ["linear", "SSIMULACRA2", 2]  # VTM was published without it
    page.check("#log")
    page.select_option("#metric", "psnr")


def test_tables_sort(page):
    page.select_option("#cell-image", "all")
    assert page.locator("#cell-table tbody tr").count() == 16
    head = page.locator("#cell-table th", has_text="psnr")
    column = page.locator("#cell-table tbody tr td:nth-child(7)")
    assert head.evaluate("cell => cell.cellIndex") == 6
    for ascending in (True, False):
        head.click()
        values = [float(text) for text in column.all_inner_texts()]
        assert values == sorted(values, reverse=not ascending) and len(set(values)) > 10
    page.locator("#cell-table th", has_text="codec").click()
    names = page.locator("#cell-table tbody tr td:first-child").all_inner_texts()
    assert names == ["jpeg"] * 8 + ["webp"] * 8
    page.select_option("#cell-codec", "webp")
    page.select_option("#cell-image", "b<&.png")
    assert page.locator("#cell-table tbody tr").count() == 4
    summary = page.locator("#summary + table")
    summary.locator("th").nth(1).click()
    assert (
        summary.locator("tbody td:first-child").last.inner_text().startswith("vvenc")
    )  # "-" is last


def test_the_divider_moves_and_the_view_zooms(page, study, curves):
    def clip():
        return page.locator("#stage .left").evaluate("image => image.style.clipPath")

    page.select_option("#view-image", "a.png")
    assert page.locator("#view-rate option").all_inner_texts() == ["0.7 bpp", "1.5 bpp"]
    labels = page.locator("#view-right option").all_inner_texts()
    assert labels == ["original", "jpeg", "webp"]
    page.select_option("#view-left", labels[1])
    page.select_option("#view-right", labels[2])
    stage = page.locator("#stage")
    stage.scroll_into_view_if_needed()
    page.wait_for_function("$('stage').querySelector('.right').naturalWidth === 176")
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60, steps=4)
    page.mouse.up()
    assert clip() == "inset(0px 75% 0px 0px)"
    assert page.locator("#divider").evaluate("line => line.style.left") == "25%"
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 60)  # not held: it stays
    assert clip() == "inset(0px 75% 0px 0px)"
    page.locator("#view").press("ArrowRight")
    assert page.locator("#divider").evaluate("line => line.style.left") == "27%"
    page.select_option("#view-zoom", "4")
    page.wait_for_function(
        "$('stage').querySelector('.left').getBoundingClientRect().width === 704"
    )
    assert stage.locator(".right").evaluate("image => image.style.imageRendering") == "pixelated"
    page.select_option("#view-zoom", "1")


def test_views_of_equal_bytes(page, study):
    """The rate is that of the anchor's files, its bytes are the others'; a shown pixel is the decoded file's: WebP without loss."""
    page.select_option("#view-image", "a.png")
    page.select_option("#view-rate", "1.5 bpp")
    page.select_option("#view-left", "jpeg")
    found = study.at_equal_bytes("webp", study.images[:1], [1.5])
    jpeg, webp = (found["a.png", 1.5, codec] for codec in ("jpeg", "webp"))
    assert webp.row["bpp"] == pytest.approx(1.5, rel=0.1)
    assert jpeg.row["bpp"] == pytest.approx(webp.row["bpp"], rel=0.05)
    row = page.locator("#view-table tr.shown").first.locator("td").all_inner_texts()
    psnr, ssimulacra2 = f"{jpeg.row['psnr']:.2f}", f"{jpeg.row['ssimulacra2']:.1f}"
    assert row[:4] == ["jpeg", f"{jpeg.row['quality']:g}", f"{jpeg.row['bpp']:.3f}", psnr]
    assert row[5] == ssimulacra2
    page.wait_for_function("$('stage').querySelector('.left').complete")
    shown = page.evaluate(
        "async () => { const image = $('stage').querySelector('.left'); await image.decode();"
        " const canvas = new OffscreenCanvas(176, 176).getContext('2d'); canvas.drawImage(image, 0, 0);"
        " return [...canvas.getImageData(100, 60, 1, 1).data.slice(0, 3)]; }"
    )
    assert shown == study.codecs[0].decode(jpeg.data, (176, 176))[60, 100].tolist()


def test_a_report_without_pictures(browser, curves, tmp_path):
    (tmp_path / "r.html").write_text(to_html(curves, []))
    page = browser.new_page()
    page.set_default_timeout(120_000)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "r.html").as_uri())
    assert "without images" in page.inner_text("#visual-tools") and "No anchor" in page.inner_text(
        "body"
    )
    assert wrong == []
    page.close()
