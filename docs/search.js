// Ask the search of built pages for words, as a browser does:
// node docs/search.js docs/_build/zh_cn 骨干 冻结
const fs = require('fs')
const path = require('path')
const vm = require('vm')

const [folder, ...words] = process.argv.slice(2)
// What the pages' scripts ask of a browser before anything is searched for.
const browser = {
  DOCUMENTATION_OPTIONS: {},
  SPHINX_HIGHLIGHT_ENABLED: false,
  document: {
    addEventListener() {},
    getElementById() {},
    readyState: 'loading',
  },
  window: {},
}
vm.createContext(browser)
for (const script of [
  '_static/doctools.js',
  '_static/language_data.js',
  '_static/searchtools.js',
  'searchindex.js',
]) {
  const file = path.join(folder, script)
  vm.runInContext(fs.readFileSync(file, 'utf8'), browser, file)
}
for (const word of words) {
  browser.word = word
  const found = vm.runInContext(
    'Search._performSearch(...Search._parseQuery(word))',
    browser,
  )
  console.log(`${word}: ${found.length} pages, ${found[0] && found[0][0]}`)
  if (!found.length) process.exitCode = 1
}
