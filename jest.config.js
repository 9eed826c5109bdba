const jestJupyterLab = require('@jupyterlab/testing/lib/jest-config');

// Packages that ship as ES modules only and so must go through babel.
const esModules = [
  '@codemirror',
  '@jupyter/',
  '@jupyterlab/',
  '@microsoft/',
  'exenv-es6',
  'lib0',
  'nanoid',
  'vscode-ws-jsonrpc',
  'y-protocols',
  'y-websocket',
  'yjs'
].join('|');

const base = jestJupyterLab(__dirname);

module.exports = {
  ...base,
  automock: false,
  modulePathIgnorePatterns: [
    '<rootDir>/jupyter_elastic',
    '<rootDir>/build',
    '<rootDir>/dist',
    '<rootDir>/ui-tests'
  ],
  roots: ['<rootDir>/src'],
  testRegex: 'src/.*/__tests__/.*\\.spec\\.tsx?$|src/__tests__/.*\\.spec\\.tsx?$',
  transform: {
    ...base.transform,
    '^.+\\.tsx?$': ['ts-jest/legacy', { tsconfig: './tsconfig.test.json' }]
  },
  transformIgnorePatterns: [`/node_modules/(?!${esModules}).+`],
  reporters: ['default']
};
