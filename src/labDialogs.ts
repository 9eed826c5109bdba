/**
 * Dialogs of Lab's own that say less, or something that is no longer true. Lab keeps a list of its
 * dialogs, but they have no names: they are told by their words, in Lab's own translation. Where
 * Lab words one otherwise, it simply stays.
 */
import { Dialog } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

/** Dismiss the dialogs with that title; `title` as it is in Lab's source. */
export function dismissTitled(title: string, translator: ITranslator | null): void {
  const text = labs(translator).__(title);
  findTitled(text).forEach(dialog => dialog.reject());
}

/**
 * Save again what Lab says it could not save, and dismiss what it said: where that fails too, Lab
 * says so anew.
 */
export async function saveAgain(
  documents: readonly ISavable[],
  translator: ITranslator | null
): Promise<void> {
  const titleOf = (one: ISavable): string =>
    labs(translator).__('File Save Error for %1', PathExt.basename(one.localPath));
  const failed = documents.filter(one => findTitled(titleOf(one)).length > 0);
  for (const one of failed) {
    findTitled(titleOf(one)).forEach(dialog => dialog.reject());
    await one.save().catch(() => undefined);
  }
}

/** What is open, as Lab's contexts of documents are. */
export interface ISavable {
  readonly localPath: string;
  save(): Promise<void>;
}

/**
 * Dismiss Lab's word that the kernel of the document at `path` has died, shown or about to be.
 * Returns whether there was one.
 */
export function dismissDied(path: string, translator: ITranslator | null): boolean {
  const text = labs(translator).__(
    'The kernel for %1 appears to have died. It will restart automatically.',
    path
  );
  return dismiss('.jp-Dialog-body', text);
}

function labs(translator: ITranslator | null): ReturnType<ITranslator['load']> {
  return (translator ?? nullTranslator).load('jupyterlab');
}

function dismiss(part: string, text: string): boolean {
  const found = Dialog.tracker.filter(
    dialog => dialog.node.querySelector(part)?.textContent === text
  );
  found.forEach(dialog => dialog.reject());
  return found.length > 0;
}

/** Also of dialogs that wait for another one: their title is not drawn yet, but in their label. */
function findTitled(title: string): Dialog<unknown>[] {
  return Dialog.tracker.filter(
    ({ node }) =>
      node.querySelector('.jp-Dialog-header')?.textContent === title ||
      !!node.ariaLabel?.startsWith(`${title} `)
  );
}
