/**
 * The settings of `schema/plugin.json`, typed. Their defaults are the schema's; those here serve
 * where there is no settings registry.
 */
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { SETTINGS_ID } from './tokens';

export interface IElasticSettings {
  side: 'left' | 'right';
  /** Seconds. */
  pollInterval: number;
  /** Seconds. */
  usageInterval: number;
  notifyStarts: boolean;
  notifyFailures: boolean;
}

const DEFAULTS: IElasticSettings = {
  side: 'left',
  pollInterval: 30,
  usageInterval: 5,
  notifyStarts: true,
  notifyFailures: true
};

/**
 * Hand the settings to `apply`, now and whenever they change.
 *
 * Resolves after the first time; rejects when the settings cannot be loaded.
 */
export async function followSettings(
  registry: ISettingRegistry | null,
  apply: (settings: IElasticSettings) => void
): Promise<void> {
  if (!registry) {
    apply(DEFAULTS);
    return;
  }
  const settings = await registry.load(SETTINGS_ID);
  const read = (): void =>
    apply({ ...DEFAULTS, ...(settings.composite as Partial<IElasticSettings>) });
  settings.changed.connect(read);
  read();
}
