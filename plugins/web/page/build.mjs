// Bundles the page into the folder that is served; what it writes is committed. An argument names another folder.
import { build } from "esbuild";

await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: process.argv[2] ?? "../src/latentd_web/static",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "none",
  banner: { js: "/* latentd-web, Apache-2.0. Contains Preact and @preact/signals, MIT, (c) Jason Miller and Preact's authors. */" },
});
