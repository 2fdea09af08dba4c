import * as ort from "./ort.wasm.min.mjs";

const session = await ort.InferenceSession.create("whole.onnx");

/** Return the bone age in months of an image file, such as an <input>'s. */
export async function months(file, male) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  canvas.drawImage(bitmap, 0, 0);
  const colours = canvas.getImageData(0, 0, width, height).data;
  const grey = Uint8Array.from({ length: width * height }, (_, i) => colours[4 * i]);
  const film = new ort.Tensor("uint8", grey, [height, width]);
  const sex = new ort.Tensor("float32", [male ? 1 : 0], [1, 1]);
  const found = await session.run({ film, sex });
  return found.hand_confidence.data[0] > 0 ? found.age_months.data[0] : null;
}
