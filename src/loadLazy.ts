/**
 * The door to `lazy.ts`: only here it is imported, so that it becomes a file of its own.
 */
import type * as Lazy from './lazy';

let loaded: Promise<typeof Lazy> | null = null;

/** Load forms and charts; once. Rejects where the file cannot be had, and tries again when asked. */
export function loadLazy(): Promise<typeof Lazy> {
  loaded ??= import(/* webpackChunkName: "lazy" */ './lazy').catch(error => {
    loaded = null;
    throw error;
  });
  return loaded;
}
