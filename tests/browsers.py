"""Debian's chromium, without a window: what a person would see, and what it complains of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.leaks import SESSION_CHILDREN

AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--window-size=1280,1400", "--force-color-profile=srgb",
)  # fmt: skip


class Browser:
    """One tab."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Anew, with nothing remembered but what the site stores."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def leave(self) -> None:
        """Looks at nothing, as light as ever."""
        self.prefer("light")
        self.driver.get("about:blank")

    def find(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        return self.run(f"return document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def press(self, name: str) -> None:
        """Clicks the button of that name, once it may be clicked."""
        path = f"//button[normalize-space()={json.dumps(name)} and not(@disabled or @hidden)]"
        self.until(lambda: self.driver.find_elements(By.XPATH, path), f"no button {name}")
        self.driver.find_element(By.XPATH, path).click()

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, claim, why: str, seconds: float = 20.0):
        """What the claim says, once it is true."""
        try:
            return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: claim())
        except TimeoutException:
            shown = self.text("body")
            raise AssertionError(f"{why}; {self.complaints()}; the page says:\n{shown}") from None

    def complaints(self) -> list[str]:
        """What the page's own console said since the last time, but of refused requests."""
        lines = [line["message"] for line in self.driver.get_log("browser")]
        return [line for line in lines if "status of 40" not in line]

    def barriers(self) -> list[str]:
        """What axe finds to keep people out."""
        if not self.run("return 'axe' in window"):
            self.run(AXE.read_text())
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then((told) => done(told.violations))"
        )
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as the system would say."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    @contextmanager
    def phone(self) -> Iterator[None]:
        """As wide as a phone."""
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        yield
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@contextmanager
def open_browser(directory: Path) -> Iterator[Browser]:
    """A browser that keeps its files in `directory`. Skips where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromium-driver, of Debian, are not installed")
    options = Options()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={directory / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(driver, env={"HOME": str(directory), "TMPDIR": str(directory)})
    browser = webdriver.Chrome(options=options, service=service)
    SESSION_CHILDREN.add(service.process.pid)
    try:
        yield Browser(browser)
    finally:
        browser.quit()
        SESSION_CHILDREN.discard(service.process.pid if service.process else 0)
