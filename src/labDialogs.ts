/**
 * Dialogs of Lab's own that say less, or something that is no longer true. Lab keeps a list of its
 * dialogs, but they have no names: they are told by their words, in Lab's own translation. Where
 * Lab words one otherwise, it simply stays.
 */
import { Dialog } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

/** Dismiss the dialogs with that title; `title` as it is in Lab's source. */
export function dismissTitled(title: string, translator: ITranslator | null): void {
  const text = labs(translator).__(title);
  dismiss('.jp-Dialog-header', text);
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
