/**
 * How soon a kernel of a template would be there, in words. Pure.
 */
import { TranslationBundle } from '@jupyterlab/translation';
import { Remembered } from './remembered';

/**
 * "2 warm · 0.2 s" or "about 40 s", by how long starts took here; where nothing is known, the
 * count alone, and nothing for a template that keeps no warm pods.
 */
export function warmBadge(
  template: { name: string; warm: number; target: number },
  trans: TranslationBundle,
  remembered: Remembered
): string {
  const seconds = remembered.seconds(template.name, template.warm ? 'warm' : 'cold');
  const count =
    template.warm || template.target
      ? trans._n('%1 warm', '%1 warm', template.warm)
      : '';
  if (seconds === null) {
    return count;
  }
  const time = seconds < 10 ? seconds.toFixed(1) : String(Math.round(seconds));
  return template.warm
    ? trans.__('%1 · ready in %2 s', count, time)
    : trans.__('about %1 s', time);
}
