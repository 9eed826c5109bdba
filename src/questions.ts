/**
 * What is asked before variables are lost. Enter, pressed once too often, must not lose anything:
 * where a dialog comes after a form, its default is Cancel.
 */
import { Dialog, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { LossQuestion } from './components/lossQuestion';
import { IKernel, IResourceWish } from './request';
import { showResources } from './resources';
import { kernelTitle } from './titles';

/** Whether a kernel may be ended. */
export function askToStop(kernel: IKernel, trans: TranslationBundle): Promise<boolean> {
  return ask({
    title: trans.__('Stop the kernel?'),
    body: trans.__(
      'The variables of "%1" are lost; the notebook stays.',
      kernelTitle(kernel)
    ),
    label: trans.__('Stop'),
    ariaLabel: trans.__('Stop the kernel'),
    isByForm: false
  });
}

/** Whether several kernels may be ended. */
export function askToStopMany(
  kernels: readonly IKernel[],
  trans: TranslationBundle
): Promise<boolean> {
  const count = kernels.length;
  return ask({
    title: trans._n('Stop %1 kernel?', 'Stop %1 kernels?', count),
    body: trans.__(
      'The variables of %1 are lost; notebooks stay.',
      shortList(kernels.map(kernelTitle), trans)
    ),
    label: trans.__('Stop'),
    ariaLabel: trans._n(
      'Stop %1 kernel; its variables are lost',
      'Stop %1 kernels; their variables are lost',
      count
    ),
    isByForm: true
  });
}

/** Whether a kernel may get another pod; `refusal` says why it cannot stay where it is. */
export function askToMove(
  kernel: IKernel,
  wish: IResourceWish,
  refusal: string,
  trans: TranslationBundle
): Promise<boolean> {
  return ask({
    title: trans.__('Move the kernel to another pod?'),
    body: React.createElement(LossQuestion, {
      reason: refusal,
      change: trans.__(
        '"%1" gets another pod with %2.',
        kernelTitle(kernel),
        showResources({ ...kernel.resources, ...wish })
      ),
      isBusy: kernel.execution_state === 'busy',
      trans
    }),
    label: trans.__('Move'),
    ariaLabel: trans.__('Move the kernel; its variables are lost'),
    isByForm: true
  });
}

/** Whether a notebook may leave its kernel, which ends, for another; `reason` as what led to it. */
export function askToLeave(
  notebook: string,
  isBusy: boolean,
  reason: string,
  trans: TranslationBundle
): Promise<boolean> {
  return ask({
    title: trans.__('Change the kernel?'),
    body: React.createElement(LossQuestion, {
      reason,
      change: leaving(notebook, trans),
      isBusy,
      trans
    }),
    label: trans.__('Change'),
    ariaLabel: trans.__('Change the kernel; the variables of the old one are lost'),
    isByForm: true
  });
}

/** What becomes of the kernel that a notebook is on when it gets another. */
export function leaving(notebook: string, trans: TranslationBundle): string {
  return trans.__(
    '"%1" gets another kernel, and the one that it is on ends.',
    notebook
  );
}

interface IQuestion {
  title: string;
  body: string | React.ReactElement;
  label: string;
  ariaLabel: string;
  /** Whether a form or its Enter key may have led here. */
  isByForm: boolean;
}

async function ask(question: IQuestion): Promise<boolean> {
  const { title, body, label, ariaLabel } = question;
  const { button } = await showDialog({
    title,
    body,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label, ariaLabel })],
    ...(question.isByForm ? { defaultButton: 0 } : {})
  });
  return button.accept;
}

/** The first few, and how many more there are. */
function shortList(titles: readonly string[], trans: TranslationBundle): string {
  const named = titles.slice(0, 3).map(title => `"${title}"`);
  const more = titles.length - named.length;
  return more
    ? trans._n('%2 and %1 more', '%2 and %1 more', more, named.join(', '))
    : named.join(', ');
}
