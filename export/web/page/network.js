// The network, by onnxruntime-web: on a WebGPU where there is one that gives the right numbers, else by WebAssembly.
import {asHalf} from "./scores.js";
import {networkInput, networkSize} from "./photo.js";

const THREADS_MAX = 4;      // more help a network of this size little
const SAME = 0.999;         // cosine of the check's embedding on this machine and on the one that exported the model
const at = (name) => new URL(name, import.meta.url).href;

export class Network {
  // model: the bytes of the ONNX file; described: model.json; check: check.json; wanted: "webgpu", "wasm" or null.
  static async open(model, described, check, wanted) {
    const suspends = "Suspending" in WebAssembly;
    if (!suspends) {  // The WebAssembly of onnxruntime-web asks for this, but only uses it when it runs on a WebGPU.
      WebAssembly.Suspending = function (call) { return call; };
      WebAssembly.promising = (call) => async (...given) => call(...given);
    }
    const ort = await import("./ort/ort.js");
    ort.env.logLevel = "error";
    ort.env.wasm.wasmPaths = {mjs: at("ort/ort-wasm.js"), wasm: at("ort/ort-wasm.wasm")};
    ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(THREADS_MAX, navigator.hardwareConcurrency || 1) : 1;
    const made = (backend) => Network.#made(ort, model, described, check, backend);
    if (wanted === "wasm") return made("wasm");
    if (suspends && (await navigator.gpu?.requestAdapter().catch(() => null))) {
      try { return await made("webgpu"); } catch (error) {
        if (wanted === "webgpu") throw error;
        console.info(`WebGPU is not used: ${error.message}`);
      }
    } else if (wanted === "webgpu") throw new Error("This browser gives the page no WebGPU.");
    return made("wasm");
  }

  static async #made(ort, model, described, check, backend) {
    const network = new Network();
    const session = await ort.InferenceSession.create(model, {executionProviders: [backend]});
    Object.assign(network, {ort, session, described, runs: 0});
    const threads = ort.env.wasm.numThreads;
    network.backend = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
    await network.#verify(check);  // the first run, which is slow, besides
    return network;
  }

  async #verify({size, image_embedding}) {
    const input = Float32Array.from({length: 3 * size[0] * size[1]}, (_, i) => ((i * 7919) % 256) / 127.5 - 1);
    const got = (await this.#run(input, size)).image_embedding.data;
    let product = 0, mine = 0, theirs = 0;
    for (let i = 0; i < got.length; i++) {
      product += got[i] * image_embedding[i];
      mine += got[i] ** 2;
      theirs += image_embedding[i] ** 2;
    }
    const cosine = product / Math.sqrt(mine * theirs);
    if (!(cosine >= SAME)) throw new Error(`the network gives other numbers here (cosine ${cosine.toFixed(4)})`);
  }

  #run(input, [height, width]) {
    return this.session.run({image: new this.ort.Tensor("float32", input, [1, 3, height, width])});
  }

  // photo as in photo.js -> {maps, embeddings, timings_ms}; maps as in decode.js, embeddings K arrays of D.
  async encode(photo) {
    const began = performance.now(), size = networkSize(photo, this.described.input);
    const input = networkInput(photo, size, this.described.input), prepared = performance.now();
    const out = await this.#run(input, size);
    this.runs++;
    const [, count, height, width] = out.segment_maps.dims, [, K, D] = out.segment_embeddings.dims;
    const embeddings = Float32Array.from(out.segment_embeddings.data, asHalf);
    if (!embeddings.every(Number.isFinite)) throw new Error("The network gave numbers that are not finite.");
    return {
      maps: {count, height, width, data: Float32Array.from(out.segment_maps.data, asHalf)},
      embeddings: Array.from({length: K}, (_, k) => embeddings.slice(k * D, (k + 1) * D)),
      timings_ms: {preprocess: prepared - began, network: performance.now() - prepared},
    };
  }
}
