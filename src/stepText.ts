/**
 * The steps of a start in words. Pure.
 */
import { TranslationBundle } from '@jupyterlab/translation';

/** What a step is called where the server gives no sentence. */
export function stepText(
  step: { name: string; message: string },
  trans: TranslationBundle
): string {
  if (step.message) {
    return step.message;
  }
  const names: { [name: string]: string } = {
    queued: trans.__('Waiting for room'),
    created: trans.__('Pod created'),
    claimed: trans.__('Warm pod claimed'),
    scheduled: trans.__('A node has room'),
    'node-coming': trans.__('A node is being added'),
    'image-pulling': trans.__('Pulling the image'),
    'image-pulled': trans.__('Image is pulled'),
    started: trans.__('Container runs'),
    blocked: trans.__('Something is in the way'),
    'agent-up': trans.__('Agent is up'),
    resized: trans.__('Resources are set'),
    'kernel-up': trans.__('Kernel is up'),
    failed: trans.__('Start failed')
  };
  return names[step.name] ?? step.name;
}
