import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import * as ort from "onnxruntime-web";

/** Return the greys of a PNG of 8-bit grey values. */
function decode(png) {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  if (png.readUInt32BE(0) !== 0x89504e47 || png.readUInt32BE(24) !== 0x08000000 || png[28]) {
    throw new Error("not a PNG of 8-bit grey values; convert it first");
  }
  const parts = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") {
      parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
    }
  }
  const [raw, grey] = [inflateSync(Buffer.concat(parts)), new Uint8Array(width * height)];
  for (let y = 0, at = 0; y < height; y++) {
    const filter = raw[at++];
    for (let x = 0, i = y * width; x < width; x++, i++) {
      const [left, up] = [x ? grey[i - 1] : 0, y ? grey[i - width] : 0];
      const corner = x && y ? grey[i - width - 1] : 0;
      const [a, b] = [Math.abs(up - corner), Math.abs(left - corner)];
      const c = Math.abs(left + up - 2 * corner);
      const nearest = a <= b && a <= c ? left : b <= c ? up : corner;
      grey[i] = raw[at++] + [0, left, up, (left + up) >> 1, nearest][filter];
    }
  }
  return new ort.Tensor("uint8", grey, [height, width]);
}

const [model, image, sex] = process.argv.slice(2);
const stop = (message) => (console.error(message), process.exit(2));
if (!["M", "F"].includes(sex)) stop("usage: node months.mjs MODEL PNG M|F");
const session = await ort.InferenceSession.create(readFileSync(model));
const film = decode(readFileSync(image));
const male = new ort.Tensor("float32", [sex === "M" ? 1 : 0], [1, 1]);
const found = await session.run({ film, sex: male });
if (found.hand_confidence.data[0] === 0) stop("no hand found");
console.log(found.age_months.data[0].toFixed(1), "months");
