// Prints what the parser of AsyncAPI says of a document, one line each; the exit code is 1 if it is not valid.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [modules, file] = process.argv.slice(2);
const { Parser } = createRequire(modules)('@asyncapi/parser');
const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'));
for (const { code, message, path } of diagnostics) console.log(`${code}: ${message} (${path.join('.')})`);
process.exit(document ? 0 : 1);
