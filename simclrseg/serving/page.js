// Photos are sent one by one to POST /predict, two at a time; what comes back is shown, and packed into a zip.
const LANES = 2; // photos on their way at once
const MOST_SHOWN = 1280; // pixels of the longer side of a mask as it is drawn
const LARGEST_ZIP = 0xffffffff; // bytes, and beginnings of files in it
const MOST_LABELS = 5;
const $ = (id) => document.getElementById(id);
const photos = []; // in the order in which they came
const waiting = [];
let about = null;
let busy = 0;

function make(name, properties = {}, ...content) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...content);
  return element;
}

const number = (value) => value.toLocaleString("en");
const percent = (share) => `${share > 0 && share < 0.005 ? "< 1" : Math.round(100 * share)} %`;
const view = () => document.querySelector("input[name=view]:checked").value;
const segments = () => about.task === "segment";
const stem = (name) => name.replace(/\.[^.]*$/, "") || name;
const say = (text) => { $("status").textContent = text; };

// What the model is

async function begin() {
  try {
    about = await (await fetch("health")).json();
  } catch {
    say("simclrseg does not answer: start it again, and load this page anew.");
    $("files").disabled = true;
    return;
  }
  const does = segments() ? "gives each pixel a class" : "gives each photo a class";
  $("model").textContent = `${about.model} ${does}: ${about.classes.length > 12 ? `${about.classes.length} classes` : about.classes.join(", ")}.`;
  $("limits").textContent = `Up to ${Math.floor(about.most_bytes / 2 ** 20)} MB each. They go to simclrseg at ${location.host} only. Nothing is kept.`;
  for (const id of ["views", "strength-label", "legend"]) $(id).hidden = !segments();
  if (segments()) {
    about.colours.forEach((colour, label) => {
      const key = make("span", { className: "key" });
      key.style.background = `rgb(${colour.join(" ")})`;
      $("legend").append(make("li", {}, key, about.classes[label] + (label ? "" : " (bare in the overlay)")));
    });
    if (!about.overlay) { // whose pictures have no red, green and blue
      document.querySelector("input[value=mask]").checked = true;
      $("views").hidden = $("strength-label").hidden = true;
    }
  }
  if (about.threshold !== null && segments()) {
    $("threshold-label").hidden = false;
    $("threshold").value = Math.round(100 * about.threshold);
    showThreshold();
  }
}

const threshold = () => {
  const chosen = Number($("threshold").value);
  return chosen === Math.round(100 * about.threshold) ? about.threshold : chosen / 100;
};
function showThreshold() { $("threshold-value").textContent = threshold(); }

function address(kind) {
  const asked = new URLSearchParams({ as: kind });
  if (about.threshold !== null && segments()) asked.set("threshold", threshold());
  return `predict?${asked}`;
}

// Photos that come

function add(files) {
  if (!about || !files.length) return;
  for (const file of files) {
    const photo = { file, url: URL.createObjectURL(file), state: "waiting", turn: 0 };
    photos.push(photo);
    draw(photo);
    enqueue(photo);
  }
  say(`${photos.length === 1 ? "1 photo is" : `${photos.length} photos are`} being worked on.`);
}

function enqueue(photo) {
  photo.turn += 1;
  photo.state = "waiting";
  photo.card.classList.add("busy");
  if (!waiting.includes(photo)) waiting.push(photo);
  $("controls").hidden = false;
  refresh();
  while (busy < LANES && waiting.length) lane();
}

async function lane() {
  busy += 1;
  while (waiting.length) {
    const photo = waiting.shift();
    const turn = photo.turn;
    try {
      const { blob, confidence } = await ask(photo, segments() ? "mask" : "json");
      if (turn !== photo.turn) continue; // another threshold, or cleared meanwhile
      Object.assign(photo, { blob, confidence, overlay: null });
      await (segments() ? showMask(photo) : showLabels(photo));
      if (turn === photo.turn) photo.state = "done";
    } catch (error) {
      if (turn !== photo.turn) continue;
      photo.state = "failed";
      showError(photo, error.message);
    }
    if (turn === photo.turn) photo.card.classList.remove("busy");
    refresh();
  }
  busy -= 1;
  refresh();
}

async function ask(photo, kind) {
  const { file } = photo;
  if (!file.size) throw new Error("the file is empty");
  if (file.size > about.most_bytes) {
    throw new Error(`${number(file.size)} bytes are more than the ${number(about.most_bytes)} allowed: shrink it`);
  }
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  for (;;) {
    let answer;
    try {
      answer = await fetch(address(kind), { method: "POST", body: file, headers: { "Content-Type": type } });
    } catch {
      const there = await fetch("health").then(() => true, () => false);
      throw new Error(there ? "it cannot be read: drop photos, not folders" : "simclrseg does not answer: is it still running?");
    }
    if (answer.status === 503 && photos.includes(photo)) { // others ask too
      await new Promise((go) => { setTimeout(go, 1000 * Number(answer.headers.get("Retry-After") ?? 1)); });
      photo.tries = (photo.tries ?? 0) + 1;
      if (photo.tries < 60) continue;
    }
    if (!answer.ok) {
      const line = await answer.json().then(({ error }) => error, () => `the answer is ${answer.status}`);
      throw new Error(line.replace(/^the picture \([\d,]+ bytes\): /, ""));
    }
    photo.tries = 0;
    return { blob: await answer.blob(), confidence: answer.headers.get("X-Confidence") };
  }
}

// What is shown of a photo

function draw(photo) {
  const { name } = photo.file;
  const image = make("img", { src: photo.url, alt: `Photo ${name}`, decoding: "async" });
  photo.image = image;
  photo.photoPane = make("div", { className: "pane" }, image);
  photo.panes = make("div", { className: segments() ? "panes" : "panes alone" }, photo.photoPane);
  photo.facts = make("div", { className: "facts" }, "Waiting.");
  photo.card = make("li", { className: "photo" }, make("h2", { textContent: name }), photo.panes, photo.facts);
  photo.card.setAttribute("aria-label", name);
  image.addEventListener("error", () => {
    photo.unseen = true;
    image.remove();
    photo.photoPane.replaceChildren(make("p", { className: "facts", textContent: "This browser does not show files of this kind." }));
    if (photo.pane) showMask(photo).catch((error) => showError(photo, error.message));
  });
  $("results").append(photo.card);
}

async function showMask(photo) {
  const { name } = photo.file;
  const bitmap = await createImageBitmap(photo.blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const scale = Math.min(1, MOST_SHOWN / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", {
    className: "over",
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  });
  const { width, height } = bitmap;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  const counts = new Array(about.classes.length).fill(0);
  for (let at = 0; at < data.length; at += 4) {
    const label = about.classes.length <= 2 ? Number(data[at] > 0) : data[at];
    counts[label] += 1;
    const [red, green, blue] = about.colours[label];
    data[at] = red;
    data[at + 1] = green;
    data[at + 2] = blue;
    data[at + 3] = label ? 255 : 0;
  }
  context.putImageData(pixels, 0, 0);
  const total = canvas.width * canvas.height;
  const shares = counts
    .map((count, label) => [count / total, about.classes[label], label])
    .filter(([share, , label]) => label && share)
    .sort(([one], [other]) => other - one)
    .map(([share, label]) => `${label} ${percent(share)}`);
  const found = shares.length ? shares.join(", ") : "nothing found";
  photo.canvas = canvas;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Mask of ${name}: ${found}`);
  photo.pane?.remove();
  photo.pane = make("div", { className: "pane" });
  photo.ready = about.overlay && (photo.unseen || !about.photos);
  if (photo.ready) { // a TIFF, or bands that no browser knows: the overlay is composed by simclrseg
    photo.overlay = (await ask(photo, "overlay")).blob;
    URL.revokeObjectURL(photo.composed);
    photo.composed = URL.createObjectURL(photo.overlay);
    photo.under = make("img", { src: photo.composed, alt: `Overlay of ${name}: ${found}`, className: "under" });
  } else {
    photo.under = make("img", { src: photo.url, alt: "", className: "under" });
  }
  photo.pane.append(photo.under, canvas);
  photo.panes.append(photo.pane);
  const sure = photo.confidence === null ? "" : ` · confidence ${Number(photo.confidence).toFixed(2)}`;
  const buttons = make("p", { className: "buttons" }, ownButton(photo, "mask", "Mask"));
  if (about.overlay) buttons.append(ownButton(photo, "overlay", "Overlay"));
  photo.facts.replaceChildren(make("p", { textContent: `${found} · ${number(width)} x ${number(height)} pixels${sure}` }), buttons);
  arrange(photo);
}

function ownButton(photo, kind, title) {
  const button = make("button", { type: "button", textContent: `${title} (PNG)` });
  button.setAttribute("aria-label", `Download the ${kind} of ${photo.file.name}`);
  button.addEventListener("click", async () => {
    try {
      save(await content(photo, kind), `${stem(photo.file.name)}.${kind}.png`);
    } catch (error) {
      say(`${photo.file.name}: ${error.message}`);
    }
  });
  return button;
}

function arrange(photo) {
  if (!photo.pane) return;
  const masked = view() === "mask";
  photo.under.hidden = masked;
  photo.pane.style.background = masked ? `rgb(${about.colours[0].join(" ")})` : "none";
  photo.canvas.style.opacity = masked ? 1 : photo.ready ? 0 : $("strength").value / 100;
}

async function showLabels(photo) {
  const { label, scores } = JSON.parse(await photo.blob.text());
  const best = Object.entries(scores).sort(([, one], [, other]) => other - one).slice(0, MOST_LABELS);
  const list = make("dl", { className: "scores" });
  for (const [name, score] of best) {
    const bar = make("meter", { min: 0, max: 1, value: score });
    bar.setAttribute("aria-hidden", "true");
    list.append(make("dt", { textContent: name }), make("dd", {}, bar), make("dd", { textContent: percent(score) }));
  }
  photo.facts.replaceChildren(list);
  photo.card.setAttribute("aria-label", `${photo.file.name}: ${label}`);
}

function showError(photo, reason) {
  photo.panes.remove();
  photo.facts.replaceChildren(make("p", { className: "bad", textContent: reason }));
  say(`${photo.file.name}: ${reason}`);
}

function refresh() {
  const done = photos.filter(({ state }) => state === "done").length;
  const failed = photos.filter(({ state }) => state === "failed").length;
  const open = done + failed < photos.length;
  $("controls").hidden = !photos.length;
  $("progress").hidden = !open;
  $("bar").max = Math.max(1, photos.length);
  $("bar").value = done + failed;
  $("count").textContent = `${done + failed} of ${photos.length}`;
  $("download").disabled = open || !done;
  if (!open && photos.length) {
    const bad = failed ? `, ${failed} could not be read: the ${failed === 1 ? "line" : "lines"} below ${failed === 1 ? "says" : "say"} why` : "";
    say(`${done} of ${photos.length} ${photos.length === 1 ? "photo" : "photos"} done${bad}.`);
  }
}

// Downloads

async function content(photo, kind) {
  if (kind !== "overlay") return photo.blob;
  photo.overlay ??= (await ask(photo, "overlay")).blob;
  return photo.overlay;
}

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function downloadAll() {
  const good = photos.filter(({ state }) => state === "done");
  $("download").disabled = true;
  try {
    const kinds = !segments() ? ["json"] : about.overlay ? ["mask", "overlay"] : ["mask"];
    const files = [];
    const taken = new Set();
    for (const [place, photo] of good.entries()) {
      say(`Packing ${place + 1} of ${good.length}.`);
      let name = stem(photo.file.name).replace(/[/\\:]/g, "_");
      for (let copy = 2; taken.has(name.toLowerCase()); copy += 1) name = `${stem(photo.file.name).replace(/[/\\:]/g, "_")}-${copy}`;
      taken.add(name.toLowerCase());
      for (const kind of kinds) {
        const ending = segments() ? `.${kind}.png` : ".json";
        files.push([name + ending, new Uint8Array(await (await content(photo, kind)).arrayBuffer())]);
      }
    }
    save(zip(files), "simclrseg.zip");
    say(`${number(files.length)} files are in simclrseg.zip.`);
  } catch (error) {
    say(`No zip was made: ${error.message}`);
  }
  $("download").disabled = photos.some(({ state }) => state === "waiting");
}

const CRC = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ CRC[(value ^ byte) & 255];
  return (value ^ 0xffffffff) >>> 0;
}

// A zip of files that are stored as they are: PNG does not shrink. Names are UTF-8.
function zip(files) {
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  const parts = [];
  const directory = [];
  let offset = 0;
  const record = (size, write) => {
    const view = new DataView(new ArrayBuffer(size));
    write(view);
    return new Uint8Array(view.buffer);
  };
  for (const [name, bytes] of files) {
    const encoded = new TextEncoder().encode(name);
    const common = (view, at) => { // from the version that is needed to the lengths
      [20, 0x0800, 0, time, date].forEach((value, place) => view.setUint16(at + 2 * place, value, true));
      view.setUint32(at + 10, crc32(bytes), true);
      view.setUint32(at + 14, bytes.length, true);
      view.setUint32(at + 18, bytes.length, true);
      view.setUint16(at + 22, encoded.length, true);
    };
    directory.push(record(46, (view) => {
      view.setUint32(0, 0x02014b50, true);
      view.setUint16(4, 20, true);
      common(view, 6);
      view.setUint32(42, offset, true);
    }), encoded);
    parts.push(record(30, (view) => { view.setUint32(0, 0x04034b50, true); common(view, 4); }), encoded, bytes);
    offset += 30 + encoded.length + bytes.length;
    if (offset > LARGEST_ZIP || files.length > 0xffff) throw new Error("it would be too large: take fewer photos");
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(22, (view) => {
    view.setUint32(0, 0x06054b50, true);
    view.setUint16(8, files.length, true);
    view.setUint16(10, files.length, true);
    view.setUint32(12, length, true);
    view.setUint32(16, offset, true);
  });
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// What is pressed and dropped

$("files").addEventListener("change", () => {
  add([...$("files").files]);
  $("files").value = "";
});
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add([...event.dataTransfer.files]);
});
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("views").addEventListener("change", () => {
  $("strength-label").hidden = view() === "mask";
  photos.forEach(arrange);
});
$("strength").addEventListener("input", () => {
  $("strength-value").textContent = `${$("strength").value} %`;
  photos.forEach(arrange);
});
$("threshold").addEventListener("input", showThreshold);
$("threshold").addEventListener("change", () => {
  const again = photos.filter(({ state }) => state !== "failed");
  again.forEach(enqueue);
  if (again.length) say("Masks are being made with this threshold.");
});
$("download").addEventListener("click", downloadAll);
$("clear").addEventListener("click", () => {
  for (const photo of photos.splice(0)) {
    photo.turn += 1;
    URL.revokeObjectURL(photo.url);
    URL.revokeObjectURL(photo.composed);
  }
  waiting.length = 0;
  $("results").replaceChildren();
  refresh();
  say("Cleared.");
  $("files").focus();
});
begin();
