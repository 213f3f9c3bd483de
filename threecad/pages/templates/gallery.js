"use strict";
(() => {
  const PER_PAGE = 120;
  const SIZES = ["small", "medium", "large"];
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("index").textContent);
  const count = data.id.length;
  const scored = data.score !== null;
  const number = new Intl.NumberFormat("en");

  // What is derived from the columns once.
  const area = new Float64Array(count);
  const sizes = new Uint8Array(count); // a bit for each of SIZES
  for (let i = 0; i < count; i++) {
    for (const region of data.regions[i]) {
      area[i] += region[0];
      sizes[i] |= 1 << region[5];
    }
    area[i] /= data.width[i] * data.height[i] || 1;
  }
  const lowerId = data.id.map((id) => id.toLowerCase());
  const stem = (i) => data.id[i].slice(data.id[i].lastIndexOf("/") + 1);
  const percent = (ratio) => `${(100 * ratio).toPrecision(2).replace(/e.*/, "")} %`;
  const ratioText = (i) => (area[i] < 1e-4 ? "< 0.01 %" : area[i] < 0.1 ? percent(area[i])
    : `${Math.round(100 * area[i])} %`);
  const scoreText = (i) => (data.score[i] === null ? "none" : data.score[i].toPrecision(4));

  // ------------------------------------------------------------------ state, kept in the address

  const FACETS = [
    { key: "category", title: "Category", names: data.categories, has: (i, v) => data.category[i] === v },
    { key: "split", title: "Split", names: data.splits, has: (i, v) => data.split[i] === v },
    { key: "label", title: "Label", names: ["good", "defective"], has: (i, v) => data.label[i] === v },
    { key: "type", title: "Defect type", names: data.types, has: (i, v) => data.type[i] === v },
    { key: "size", title: "Has a region that is", names: SIZES, has: (i, v) => (sizes[i] >> v) & 1 },
    { key: "problem", title: "Problems", names: ["something is wrong"], has: (i) => data.problem[i] !== "" },
  ].filter((facet) => facet.names.length > 1 || (facet.key === "problem" && data.problem.some(Boolean)));

  const byArea = (a, b) => area[a] - area[b] || a - b;
  const byScore = (a, b) => data.score[a] - data.score[b] || a - b;
  const SORTS = { name: ["Name", null], largest: ["Defect area, largest first", (a, b) => byArea(b, a)],
    smallest: ["Defect area, smallest first", byArea] };
  if (scored) {
    SORTS.highest = ["Score, highest first", (a, b) => byScore(b, a)];
    SORTS.lowest = ["Score, lowest first", byScore];
    SORTS.misses = ["Worst misses", byScore, 1];
    SORTS.alarms = ["False alarms", (a, b) => byScore(b, a), 0];
  }

  const state = { sort: "name", text: "", page: 1, outlines: true, heat: false, zoom: 144, open: null };
  for (const facet of FACETS) state[facet.key] = new Set();

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const facet of FACETS) {
      state[facet.key] = new Set(given.getAll(facet.key).map((n) => facet.names.indexOf(n)).filter((v) => v >= 0));
    }
    state.sort = SORTS[given.get("sort")] ? given.get("sort") : "name";
    state.text = given.get("text") || "";
    state.page = Math.max(1, Number.parseInt(given.get("page"), 10) || 1);
    state.outlines = given.get("outlines") !== "0";
    state.heat = scored && given.get("heat") === "1";
    state.zoom = Math.min(280, Math.max(88, Number.parseInt(given.get("zoom"), 10) || 144));
    const open = given.get("open");
    state.open = open === null ? null : data.id.indexOf(open);
    if (state.open === -1) state.open = null;
  }

  function writeAddress() {
    const given = new URLSearchParams();
    for (const facet of FACETS) for (const v of state[facet.key]) given.append(facet.key, facet.names[v]);
    if (state.sort !== "name") given.set("sort", state.sort);
    if (state.text) given.set("text", state.text);
    if (state.page > 1) given.set("page", state.page);
    if (!state.outlines) given.set("outlines", "0");
    if (state.heat) given.set("heat", "1");
    if (state.zoom !== 144) given.set("zoom", state.zoom);
    if (state.open !== null) given.set("open", data.id[state.open]);
    const hash = given.toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  // ------------------------------------------------------------------ what passes, in what order

  let shown = []; // positions of the images that pass, in order
  let counts = {}; // per facet, how many pass with all other facets

  function select() {
    const text = state.text.toLowerCase();
    const only = SORTS[state.sort][2];
    const active = FACETS.map((facet) => [facet, [...state[facet.key]]]);
    counts = Object.fromEntries(FACETS.map((facet) => [facet.key, new Uint32Array(facet.names.length)]));
    shown = [];
    for (let i = 0; i < count; i++) {
      if (text && !lowerId[i].includes(text)) continue;
      if (only !== undefined && data.label[i] !== only) continue;
      if (SORTS[state.sort][1] && !relevant(i)) continue;
      let failed = null;
      let failures = 0;
      for (const [facet, wanted] of active) {
        if (wanted.length && !wanted.some((v) => facet.has(i, v))) { failed = facet; failures++; }
      }
      if (failures === 0) shown.push(i);
      if (failures > 1) continue;
      for (const [facet] of active) {
        if (failures && facet !== failed) continue;
        for (let v = 0; v < facet.names.length; v++) if (facet.has(i, v)) counts[facet.key][v]++;
      }
    }
    if (SORTS[state.sort][1]) shown.sort(SORTS[state.sort][1]);
    state.page = Math.min(state.page, pages());
  }

  /** An order by area is about images with an area, one by score about those with a score. */
  function relevant(i) {
    return state.sort === "largest" || state.sort === "smallest" ? area[i] > 0 : data.score[i] !== null;
  }

  const pages = () => Math.max(1, Math.ceil(shown.length / PER_PAGE));

  // ------------------------------------------------------------------ blocks of pictures

  // Thumbnails, outlines and heat maps lie behind this script, in blocks of consecutive images,
  // and are read when a page needs them. A block is complete once something follows it.
  const blocks = new Map();

  function block(kind, i) {
    const key = `${kind}-${Math.floor(i / data.block)}`;
    if (blocks.has(key)) return blocks.get(key);
    const element = $(key);
    if (!element) return document.readyState === "loading" ? undefined : [];
    if (!element.nextElementSibling && document.readyState === "loading") return undefined;
    const content = JSON.parse(element.textContent);
    blocks.set(key, content);
    if (blocks.size > 96) blocks.delete(blocks.keys().next().value);
    return content;
  }

  /** Return a picture's text, "" if there is none, undefined while the page is still loading. */
  function piece(kind, i) {
    const content = block(kind, i);
    return content === undefined ? undefined : content[i % data.block] || "";
  }

  let waiting = [];

  function whenLoaded(fill) {
    if (fill()) return;
    waiting.push(fill);
    if (waiting.length === 1) setTimeout(retry, 60);
  }

  function retry() {
    waiting = waiting.filter((fill) => !fill());
    if (waiting.length) setTimeout(retry, 60);
  }

  // ------------------------------------------------------------------ elements

  function make(tag, name, text) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function drawing(i, path) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${data.width[i]} ${data.height[i]}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const name of ["halo", "line"]) {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("class", name);
      line.setAttribute("d", path);
      svg.append(line);
    }
    return svg;
  }

  function picture(name, kind) {
    const image = make("img", name);
    image.alt = "";
    image.decoding = "async";
    image.draggable = false;
    if (kind) image.src = `data:image/webp;base64,${kind}`;
    return image;
  }

  /** Stack thumbnail (or the file itself), heat map and outlines in a box of the image's shape. */
  function photo(i, file) {
    const box = make("span", "photo");
    const [width, height] = [data.width[i] || 1, data.height[i] || 1];
    box.style.aspectRatio = `${width} / ${height}`;
    if (!file) box.style[width >= height ? "width" : "height"] = "100%";
    whenLoaded(() => {
      const thumb = piece("thumbnails", i);
      const heat = scored ? piece("heat", i) : "";
      const path = data.regions[i].length ? piece("outlines", i) : "";
      if (thumb === undefined || heat === undefined || path === undefined) return false;
      const base = picture("thumb", thumb);
      if (file) {
        base.alt = data.id[i];
        base.addEventListener("error", () => base.replaceWith(picture("thumb", thumb)), { once: true });
        // The thumbnail is there at once, the file when it is decoded.
        base.style.background = `center / 100% 100% url("data:image/webp;base64,${thumb}")`;
        base.src = data.image[i];
      }
      box.append(base);
      if (heat) box.append(picture("heat", heat));
      if (path) box.append(drawing(i, path));
      return true;
    });
    return box;
  }

  function card(i) {
    const button = make("button", "card");
    button.type = "button";
    button.dataset.position = i;
    button.tabIndex = -1;
    const type = data.types[data.type[i]];
    button.setAttribute("aria-label", `${data.id[i]}, ${type}${scored ? `, score ${scoreText(i)}` : ""}`);
    button.title = data.id[i];
    const frame = make("span", "frame");
    frame.append(data.width[i] ? photo(i) : "cannot be read");
    const caption = make("span", "caption");
    const value = scored ? (data.score[i] === null ? "" : scoreText(i)) : data.regions[i].length ? ratioText(i) : "";
    caption.append(
      make("span", "stem", stem(i)), make("span", "value", value),
      make("span", data.label[i] ? "type defect" : "type", type),
      make("span", "value", scored && data.regions[i].length ? ratioText(i) : ""),
    );
    button.append(frame, caption);
    return button;
  }

  function drawFacets() {
    const place = $("facets");
    if (!place.childElementCount) {
      for (const facet of FACETS) {
        const set = make("fieldset", facet.names.length > 12 ? "long" : "");
        set.append(make("legend", "", facet.title));
        facet.rows = facet.names.map((name, v) => {
          const label = make("label");
          const box = make("input");
          box.type = "checkbox";
          box.addEventListener("change", () => {
            if (box.checked) state[facet.key].add(v); else state[facet.key].delete(v);
            state.page = 1;
            update();
          });
          const total = make("small");
          label.append(box, make("span", "", name.replaceAll("_", " ")), total);
          set.append(label);
          return { label, box, total };
        });
        place.append(set);
      }
    }
    for (const facet of FACETS) {
      facet.rows.forEach(({ label, box, total }, v) => {
        box.checked = state[facet.key].has(v);
        total.textContent = number.format(counts[facet.key][v]);
        const none = !counts[facet.key][v] && !box.checked;
        label.classList.toggle("none", none);
        label.hidden = none && facet.names.length > 12;
      });
    }
    $("reset").hidden = !state.text && !FACETS.some((facet) => state[facet.key].size);
  }

  function drawGrid() {
    const grid = $("grid");
    const first = (state.page - 1) * PER_PAGE;
    const parts = [];
    let before = "";
    waiting = [];
    for (const i of shown.slice(first, first + PER_PAGE)) {
      const group = data.id[i].slice(0, data.id[i].lastIndexOf("/"));
      if (state.sort === "name" && group !== before) {
        const heading = make("h3");
        heading.append(make("b", "", data.categories[data.category[i]].replaceAll("_", " ")),
          ` · ${data.splits[data.split[i]]} · ${data.types[data.type[i]].replaceAll("_", " ")}`);
        parts.push(heading);
        before = group;
      }
      parts.push(card(i));
    }
    grid.replaceChildren(...parts);
    const head = grid.querySelector(".card");
    if (head) head.tabIndex = 0;
    $("empty").hidden = shown.length > 0;
    $("count").textContent = shown.length === count ? `${number.format(count)} images`
      : `${number.format(shown.length)} of ${number.format(count)} images`;
    $("pager").hidden = pages() === 1;
    $("page").value = state.page;
    $("page").max = pages();
    $("pages").textContent = `of ${number.format(pages())}`;
    $("first").disabled = $("previous").disabled = state.page === 1;
    $("last").disabled = $("next").disabled = state.page === pages();
  }

  function drawSwitches() {
    document.body.classList.toggle("plain", !state.outlines);
    document.body.classList.toggle("warm", state.heat);
    document.documentElement.style.setProperty("--card", `${state.zoom}px`);
    $("outlines").checked = state.outlines;
    if (scored) $("heat").checked = state.heat;
    $("zoom").value = state.zoom;
    $("sort").value = state.sort;
    if ($("search").value !== state.text) $("search").value = state.text;
  }

  function update() {
    select();
    drawFacets();
    drawGrid();
    drawSwitches();
    writeAddress();
  }

  function turn(page) {
    state.page = Math.min(pages(), Math.max(1, page));
    drawGrid();
    writeAddress();
    window.scrollTo(0, 0);
  }

  // ------------------------------------------------------------------ one image, closer

  const viewer = $("viewer");
  const stage = $("stage");
  let full = false; // pixel by pixel

  function look(i) {
    state.open = i;
    const place = shown.indexOf(i);
    $("viewer-id").textContent = data.id[i];
    $("viewer-id").title = data.id[i];
    $("place").textContent = place < 0 ? "" : `${number.format(place + 1)} of ${number.format(shown.length)}`;
    $("back").disabled = place <= 0;
    $("forward").disabled = place < 0 || place === shown.length - 1;
    stage.replaceChildren(data.width[i] ? photo(i, true) : make("p", "missing", "This image cannot be read."));
    $("facts").replaceChildren(...facts(i));
    if (!viewer.open) viewer.showModal();
    fit();
    writeAddress();
  }

  function facts(i) {
    const list = make("dl");
    const add = (name, value) => list.append(make("dt", "", name), make("dd", "", value));
    add("Category", data.categories[data.category[i]].replaceAll("_", " "));
    add("Split", data.splits[data.split[i]]);
    add("Defect type", data.types[data.type[i]]);
    if (scored) add("Score", scoreText(i));
    if (data.width[i]) add("Image", `${data.width[i]} × ${data.height[i]} pixels`);
    const regions = data.regions[i];
    if (regions.length) {
      add("Defect area", `${number.format(regions.reduce((sum, r) => sum + r[0], 0))} pixels, ${ratioText(i)}`);
      add("Regions", number.format(regions.length));
    }
    const parts = [list];
    if (data.problem[i]) parts.unshift(make("p", "problem", data.problem[i]));
    if (regions.length) parts.push(make("h3", "", "Regions"), regionTable(i));
    const links = make("p", "links");
    for (const [name, address] of [["Image file", data.image[i]], ["Mask file", data.mask[i]]]) {
      if (!address) continue;
      const link = make("a", "", name);
      link.href = address;
      link.target = "_blank";
      link.rel = "noopener";
      links.append(link);
    }
    parts.push(links);
    return parts;
  }

  function regionTable(i) {
    const table = make("table");
    const row = (tag, cells) => {
      const line = make("tr");
      for (const cell of cells) line.append(make(tag, "", cell));
      return line;
    };
    const head = make("thead");
    head.append(row("th", ["Size", "Pixels", "Left, top", "Width × height"]));
    const body = make("tbody");
    for (const [pixels, x, y, width, height, size] of data.regions[i].slice(0, 200)) {
      body.append(row("td", [SIZES[size], number.format(pixels), `${x}, ${y}`, `${width} × ${height}`]));
    }
    table.append(head, body);
    return table;
  }

  function fit() {
    stage.classList.toggle("full", full);
    $("fit").setAttribute("aria-pressed", String(full));
    const box = stage.querySelector(".photo");
    if (!box || state.open === null) return;
    const [width, height] = [data.width[state.open], data.height[state.open]];
    const pad = 22;
    const scale = full ? Math.max(1, Math.ceil(256 / Math.max(width, height)))
      : Math.min((stage.clientWidth - pad) / width, (stage.clientHeight - pad) / height);
    box.style.width = `${width * scale}px`;
    box.style.imageRendering = full ? "pixelated" : "";
  }

  function step(by) {
    const place = shown.indexOf(state.open);
    const next = shown[place + by];
    if (place >= 0 && next !== undefined) look(next);
  }

  viewer.addEventListener("close", () => {
    const last = state.open;
    state.open = null;
    const place = shown.indexOf(last);
    if (place >= 0 && Math.floor(place / PER_PAGE) + 1 !== state.page) turn(Math.floor(place / PER_PAGE) + 1);
    const target = document.querySelector(`[data-position="${last}"]`);
    if (target) focusCard(target);
    writeAddress();
  });

  // ------------------------------------------------------------------ hands

  function focusCard(target) {
    for (const other of document.querySelectorAll('.card[tabindex="0"]')) other.tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
  }

  function moveFocus(key) {
    const cards = [...document.querySelectorAll(".card")];
    const here = cards.indexOf(document.activeElement);
    if (here < 0) return false;
    let target;
    if (key === "ArrowRight") target = cards[here + 1];
    else if (key === "ArrowLeft") target = cards[here - 1];
    else if (key === "Home") target = cards[0];
    else if (key === "End") target = cards[cards.length - 1];
    else target = neighbour(cards, here, key === "ArrowDown" ? 1 : -1);
    if (target) focusCard(target);
    return true;
  }

  /** The card in the next row (up or down) that is closest to the column of this one. */
  function neighbour(cards, here, direction) {
    const { offsetLeft: left, offsetTop: top } = cards[here];
    let best;
    for (let k = here + direction; cards[k]; k += direction) {
      if (cards[k].offsetTop === top) continue;
      if (best && cards[k].offsetTop !== best.offsetTop) break;
      if (!best || Math.abs(cards[k].offsetLeft - left) < Math.abs(best.offsetLeft - left)) best = cards[k];
    }
    return best;
  }

  function toggle(name) {
    state[name] = !state[name];
    drawSwitches();
    writeAddress();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox]), select");
    if (typing) return;
    const key = event.key;
    if (key === "o") toggle("outlines");
    else if (key === "h" && scored) toggle("heat");
    else if (viewer.open) {
      if (key === "z") { full = !full; fit(); }
      else if (key === "ArrowRight" && !(full && event.target === stage)) step(1);
      else if (key === "ArrowLeft" && !(full && event.target === stage)) step(-1);
      else return;
    } else if (key === "/") $("search").focus();
    else if (key === "n") turn(state.page + 1);
    else if (key === "p") turn(state.page - 1);
    else if (/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(key)) { if (!moveFocus(key)) return; }
    else return;
    event.preventDefault();
  });

  $("grid").addEventListener("click", (event) => {
    const target = event.target.closest(".card");
    if (target) { focusCard(target); look(Number(target.dataset.position)); }
  });
  $("back").addEventListener("click", () => step(-1));
  $("forward").addEventListener("click", () => step(1));
  $("fit").addEventListener("click", () => { full = !full; fit(); });
  $("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  $("first").addEventListener("click", () => turn(1));
  $("previous").addEventListener("click", () => turn(state.page - 1));
  $("next").addEventListener("click", () => turn(state.page + 1));
  $("last").addEventListener("click", () => turn(pages()));
  $("page").addEventListener("change", () => turn(Number($("page").value) || 1));
  $("outlines").addEventListener("change", () => toggle("outlines"));
  if (scored) $("heat").addEventListener("change", () => toggle("heat"));
  $("zoom").addEventListener("input", () => { state.zoom = Number($("zoom").value); drawSwitches(); });
  $("zoom").addEventListener("change", writeAddress);
  $("sort").addEventListener("change", () => {
    state.sort = $("sort").value;
    if (SORTS[state.sort][2] !== undefined) state.heat = true;
    state.page = 1;
    update();
  });
  let pause;
  $("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => { state.text = $("search").value.trim(); state.page = 1; update(); }, 150);
  });
  $("reset").addEventListener("click", () => {
    for (const facet of FACETS) state[facet.key].clear();
    state.text = "";
    state.page = 1;
    update();
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => { readAddress(); start(); });
  window.addEventListener("resize", () => { measure(); fit(); });

  function measure() {
    document.documentElement.style.setProperty("--top", `${document.querySelector("header").offsetHeight}px`);
  }

  function start() {
    update();
    if (state.open !== null) look(state.open);
    else if (viewer.open) viewer.close();
  }

  for (const [key, [title]] of Object.entries(SORTS)) {
    const option = make("option", "", title);
    option.value = key;
    $("sort").append(option);
  }
  if (scored) $("colours").style.background = `linear-gradient(to right, ${data.colours.join(", ")})`;
  if (matchMedia("(max-width: 56rem)").matches) $("drawer").open = false;
  readAddress();
  start();
  measure();
})();
