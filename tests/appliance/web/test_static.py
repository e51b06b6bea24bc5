import re

from appliance.web.static import FOLDER, hash_page
from runtime.media.containers import media_suffixes


def test_the_start_page_names_addresses_that_may_be_kept_forever(nobody):
    page = nobody.get("/")

    addresses = re.findall(r'"(/page/[^"]+)"', page.text)
    assert len(addresses) > 10
    assert page.headers["cache-control"] == "no-cache"
    for address in addresses:
        assert address.startswith(f"/page/@{hash_page()}/")
        answer = nobody.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content == (FOLDER / address.split("/", 3)[3]).read_bytes()


def test_a_plain_or_older_address_is_requested_each_time(nobody):
    for address in ("/page/js/main.js", "/page/@0123456789abcdef/js/main.js"):
        answer = nobody.get(address)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-type"].startswith("text/javascript")
        again = nobody.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


def test_the_setup_link_leads_to_the_page(nobody):
    assert nobody.get("/setup?token=x").text == nobody.get("/").text


def test_no_part_of_the_page_is_written_into_the_page(nobody):
    """The policy forbids scripts and styles within the page, so there must be none."""
    text = nobody.get("/").text

    assert not re.findall(r"<script(?![^>]*\bsrc=)", text)
    assert "<style" not in text
    assert not re.findall(r"\son\w+=", text)
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)


def test_the_dialog_for_choosing_files_offers_only_what_can_be_read():
    source = (FOLDER / "js/add-files.js").read_text()

    accepted = source[source.index("accept:") :]
    offered = re.findall(r"[,\"](\.[a-z0-9]+)", accepted[: accepted.index("});")])

    assert {".mkv", ".dav", ".voc", ".opus", ".eac3"} <= set(offered) <= media_suffixes()
