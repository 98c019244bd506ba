"""The lists beside the map."""

from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser
from tests.support.page_case import BeatsTestCase


class ListsTests(BeatsTestCase):
    """How lists are used by keys."""

    async def test_one_stop(self) -> None:
        """A list is one stop of the Tab key, in which arrows lead from line to line."""
        await self.serve("--warntime=300", "--errtime=600")

        def story(page: Browser) -> None:
            page.until_live()
            for k in range(3):
                self.beat(f"x100{k}c0s0b0n0")
            page.until(lambda: page.text("#changes").count("started") == 3, "the changes")
            page.run("document.querySelector('#changes button').focus()")
            page.press(Keys.ARROW_DOWN)
            line = "return document.activeElement.textContent"
            self.assertIn("x1001c0s0b0n0", page.run(line))
            self.beat("x1004c0s0b0n0")
            page.until(lambda: "x1004c0s0b0n0" in page.text("#changes"), "one more")
            page.press(Keys.TAB, Keys.TAB)
            self.assertEqual(page.run("return document.activeElement.id"), "strip")
            page.press(Keys.SHIFT + Keys.TAB + Keys.TAB + Keys.NULL)
            self.assertIn("x1001c0s0b0n0", page.run(line))

        await self.look(story)
