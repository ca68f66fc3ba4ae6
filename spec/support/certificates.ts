/** An authority and certificates of it, made by openssl for one spec file. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

function openssl(folder: string, ...args: string[]): void {
  execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
}

/** Makes `NAME.crt` and `NAME.key` of an authority of that name. */
export function makeAuthority(folder: string, name: string): void {
  const files = ["-keyout", `${name}.key`, "-out", `${name}.crt`];
  openssl(folder, "req", "-x509", ...KEY, ...files, "-days", "2", "-subj", `/CN=${name}`);
}

/** Makes `NAME.crt` and `NAME.key`, for localhost and 127.0.0.1, signed by that authority. */
export function makeCertificate(folder: string, name: string, authority: string): void {
  const request = ["-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`];
  openssl(folder, "req", ...KEY, ...request);
  writeFileSync(join(folder, "names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  const signed = ["-in", `${name}.csr`, "-out", `${name}.crt`, "-days", "2", "-extfile", "names"];
  const by = ["-CA", `${authority}.crt`, "-CAkey", `${authority}.key`, "-CAcreateserial"];
  openssl(folder, "x509", "-req", ...signed, ...by);
}
