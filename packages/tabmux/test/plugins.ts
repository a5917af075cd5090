// Type tests: compiled, never run. The plugins have the types that bundlers want.

import type { Plugin as EsbuildPlugin } from 'esbuild';
import type { Plugin as RollupPlugin } from 'rollup';

import esbuild from '../src/node/esbuild.js';
import rollup from '../src/node/rollup.js';
import vite from '../src/node/vite.js';

export const plugins: [EsbuildPlugin, RollupPlugin] = [esbuild(), rollup()];
export const excluded: string[] = vite().config().optimizeDeps.exclude;
