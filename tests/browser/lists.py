"""The lists beside the map, and the names on it."""

from selenium.webdriver.common.keys import Keys

from hbtd.simulator.fleet import node_names
from tests.support.browser import Browser
from tests.support.page_case import BeatsTestCase, ModulesTestCase


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

    async def test_strip(self) -> None:
        """The strip says of the place that is pointed at which moment it is, and what happened."""
        await self.serve("--warntime=300", "--errtime=600")

        def story(page: Browser) -> None:
            page.until_live()
            self.beat("x1000c0s0b0n0", "x1000c0s0b0n1")
            page.until(lambda: page.counts() == (2, 0, 0), "they are there")
            said = page.run(
                """
                const { strip } = window.hbtd, found = new Set();
                strip.draw();
                for (let x = 0; x < strip.canvas.clientWidth; x++) found.add(strip.tell(x));
                return [...found].filter((each) => each.includes("heard")).join(" ");
                """
            )
            self.assertRegex(said, "[12] heard")

        await self.look(story)

    async def test_phone(self) -> None:
        """On a phone all of why can be reached, and no key is needed to come back to now."""
        await self.serve("--warntime=300", "--errtime=600")

        def story(page: Browser) -> None:
            page.until_live()
            self.beat("x1000c0s0b0n0")
            page.until(lambda: page.counts() == (1, 0, 0), "it is there")
            page.click_on("x1000c0s0b0n0")
            page.until(lambda: "HSM" in page.text("#why"), "why")
            below = page.run(
                """
                const aside = document.querySelector("aside"), why = document.getElementById("why");
                aside.scrollTop = 0;
                const top = why.getBoundingClientRect().top - aside.getBoundingClientRect().top;
                aside.scrollTop = why.clientHeight - aside.clientHeight;
                const last = why.querySelector("dl dd:last-child").getBoundingClientRect();
                const { bottom } = aside.getBoundingClientRect();
                return [top, last.bottom - bottom, bottom - innerHeight];
                """
            )
            self.assertGreaterEqual(below[0], 0)
            self.assertLessEqual(max(below[1:]), 0)
            page.run("window.hbtd.strip.go(Date.now() - 1000)")
            page.until(lambda: "Now" in page.text("#banner"), "the way back")
            page.click("#now")
            page.until_live()

        await self.look(story, width=390, height=844)


class LabelsTests(ModulesTestCase):
    """The names on the map."""

    async def test_in_sight(self) -> None:
        """Each part in sight has its name in sight, of no other cabinet; slots if there is room."""
        found = await self.run_script(
            """
            const { machine, map } = window.hbtd, At = new Date().toISOString();
            machine.take({ At, Number: 0, Names: given[0].join("\\n"),
              States: "h".repeat(given[0].length) });
            map.take(layout.lay(machine.names, map.aspect), machine.states);
            map.zoomTo(map.layout.parts.find((each) => each.name === "x1001c3"));
            map.zoom(2);
            const { context } = map, texts = [], write = context.fillText.bind(context);
            context.fillText = (text, x, y, ...more) => {
              const at = context.getTransform().transformPoint(new DOMPoint(x, y));
              const { width, height } = context.canvas;
              if (at.x >= 0 && at.y >= 0 && at.x < width && at.y < height) texts.push(text);
              write(text, x, y, ...more);
            };
            map.redraw();
            await new Promise((resolve) => requestAnimationFrame(() => resolve()));
            delete context.fillText;
            return texts;
            """,
            node_names(2000),
        )
        self.assertIn("x1001", found)
        self.assertIn("c3", found)
        self.assertIn("s4", found)
        self.assertNotIn("x1000", found)
