// Prints what AsyncAPI's own parser has against the document on standard input, a JSON line each; 0 is an error.
import { readFileSync } from 'node:fs';
import { AvroSchemaParser } from '@asyncapi/avro-schema-parser';
import { Parser } from '@asyncapi/parser';

const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const { document, diagnostics } = await parser.parse(readFileSync(0, 'utf8'));
for (const { code, severity, message, path } of diagnostics) {
  console.log(JSON.stringify({ code, severity, message, path: path.join('/') }));
}
if (document) console.error(`${document.channels().all().length} channels`);
