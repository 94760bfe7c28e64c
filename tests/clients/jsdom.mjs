// A page in jsdom: node jsdom.mjs PAGE BUNDLE CALL. Prints what the call answers, and lives until its input ends.
import { readFileSync } from 'node:fs'
import { JSDOM, VirtualConsole } from 'jsdom'

const [url, bundle, call] = process.argv.slice(2)
const virtualConsole = new VirtualConsole()
virtualConsole.on('jsdomError', () => {}) // a connection that the test cuts
const { window } = new JSDOM('<!doctype html><title>Shop</title>', {
  url, runScripts: 'outside-only', pretendToBeVisual: true, virtualConsole,
})
window.eval(readFileSync(bundle, 'utf8'))
console.log(JSON.stringify(await window.eval(call)))
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
